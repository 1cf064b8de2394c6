import json

import pytest

from kube import errors
from kube.errors import ApiError, ProtocolError
from tests.unit.kube.fakeapi import status


def _error(code: int, reason: str = "", message: str = "m", **extra: object) -> ApiError:
    return errors.from_response(code, headers={}, body=status(code, reason, message, **extra), request="GET /x")


@pytest.mark.parametrize(
    ("code", "reason", "predicate"),
    [
        (404, "NotFound", "not_found"),
        (409, "Conflict", "conflict"),
        (409, "AlreadyExists", "already_exists"),
        (410, "Expired", "gone"),
        (403, "Forbidden", "forbidden"),
        (401, "Unauthorized", "unauthorized"),
        (422, "Invalid", "invalid"),
        (429, "TooManyRequests", "throttled"),
    ],
)
def test_status_gives_behaviour(code: int, reason: str, predicate: str) -> None:
    predicates = {
        "not_found",
        "conflict",
        "already_exists",
        "gone",
        "forbidden",
        "unauthorized",
        "invalid",
        "throttled",
    }
    error = _error(code, reason)
    assert {name for name in predicates if getattr(error, name)} == {predicate}
    assert error.retryable == (code == 429)


def test_retry_after_from_header_or_details() -> None:
    body = status(429, "TooManyRequests", details={"retryAfterSeconds": 7})
    assert errors.from_response(429, headers={}, body=body).retry_after == 7
    assert errors.from_response(429, headers={"Retry-After": "3"}, body=body).retry_after == 3
    assert errors.from_response(429, headers={"Retry-After": "Fri, 31 Dec"}, body=b"").retry_after is None


def test_a38_no_body_or_credential_in_messages() -> None:
    token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
    go = 'found in #10 byte of ...|"hunter2"|..., bigger context ...|{"data":{"p":"hunter2"}}|...'
    for message in (f"bad {token}", f"Authorization: Bearer {token}", go):
        text = str(_error(400, "BadRequest", message))
        assert "hunter2" not in text
        assert token[25:] not in text
    html = errors.from_response(502, headers={}, body=b"<html>secret</html>")
    assert "secret" not in str(html)
    cause = {"causes": [{"message": go, "reason": "X"}]}
    assert "hunter2" not in json.dumps(_error(422, "Invalid", details=cause).details)


def test_messages_are_bounded_and_printable() -> None:
    error = _error(500, "X", "a\x1b[31m\r\n" + "b" * 5000)
    assert len(error.message) <= 1024
    assert error.message.isprintable()


def test_error_event_without_status_is_a_protocol_error() -> None:
    assert isinstance(errors.from_status(b'{"kind":"Pod"}'), ProtocolError)
    gone = errors.from_status(status(410, "Expired"))
    assert isinstance(gone, ApiError)
    assert gone.gone
