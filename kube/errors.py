"""What can go wrong between us and an API server.

::

    KubeError
     +-- ApiError        the server answered, and the answer is a refusal (metav1.Status)
     +-- TransportError  no complete answer came back (``sent``: the request may have been carried out)
     +-- ProtocolError   an answer came back that Kubernetes does not give: HTML, cut JSON, wrong kind
     +-- ConfigError     the credentials cannot be used as they are

Callers ask for behaviour (``not_found``, ``retryable``) and not for numbers. Messages never hold
a request's or an answer's body: API servers quote snippets of a body they could not decode, and a
body may be a Secret.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

_MESSAGE_LIMIT = 1024
_SECRETS = (
    # A JSON Web Token, and whatever follows the word Bearer.
    re.compile(r"eyJ[\w-]{8,}\.[\w-]+\.[\w-]*"),
    re.compile(r"(?i)(?<=bearer )\s*\S+"),
    # Go's JSON decoders quote the bytes around the error: "...|<body>|..., bigger context ...|<body>|...".
    re.compile(r"\|.*\|(?=\.\.\.)", re.DOTALL),
)


class KubeError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(KubeError):
    """A kubeconfig or in-cluster configuration that is broken, incomplete or refused as unsafe."""


class TransportError(KubeError):
    """No complete answer. With ``sent`` the server may have carried the request out all the same."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(redact(message))
        self.sent = sent


class ProtocolError(KubeError):
    """The peer does not speak Kubernetes: not JSON, cut short, another kind, a redirect, too large."""

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


class ApiError(KubeError):
    """The API server refused: a metav1.Status, or an HTTP error without one.

    ``retry_after`` is in seconds. ``details`` is Status.details as sent (without secrets).
    """

    def __init__(
        self,
        *,
        status: int,
        reason: str = "",
        message: str = "",
        retry_after: float | None = None,
        details: dict[str, Any] | None = None,
        request: str = "",
    ) -> None:
        self.status = status
        self.reason = reason
        self.message = redact(message)
        self.retry_after = retry_after
        self.details: dict[str, Any] = details or {}
        self.request = request
        prefix = f"{request}: " if request else ""
        super().__init__(f"{prefix}{status} {reason or '(no reason)'}: {self.message}")

    @property
    def not_found(self) -> bool:
        """No such object (or no such resource)."""
        return self.status == 404

    @property
    def conflict(self) -> bool:
        """The object changed meanwhile, or a UID or resourceVersion precondition does not hold."""
        return self.status == 409 and self.reason != "AlreadyExists"

    @property
    def already_exists(self) -> bool:
        """Create of a name that is taken."""
        return self.status == 409 and self.reason == "AlreadyExists"

    @property
    def gone(self) -> bool:
        """The resourceVersion or continue token is too old: list again."""
        return self.status == 410 or self.reason in {"Expired", "Gone"}

    @property
    def forbidden(self) -> bool:
        """Refused by authorisation, admission or quota."""
        return self.status == 403

    @property
    def unauthorized(self) -> bool:
        """The credentials are not accepted, also after they were read anew."""
        return self.status == 401

    @property
    def invalid(self) -> bool:
        """The body does not validate; the same body never will."""
        return self.status == 422

    @property
    def throttled(self) -> bool:
        """Too many requests: the server did not carry it out."""
        return self.status == 429

    @property
    def retryable(self) -> bool:
        """The same request may succeed later."""
        return self.status == 429 or self.status >= 500

    @property
    def causes(self) -> list[dict[str, Any]]:
        """``details.causes``, always a list."""
        found = self.details.get("causes")
        return [c for c in found if isinstance(c, dict)] if isinstance(found, list) else []


class _Status(msgspec.Struct):
    kind: str = ""
    code: int = 0
    reason: str = ""
    message: str = ""
    details: dict[str, Any] | None = None


_status_decoder = msgspec.json.Decoder(_Status)


def redact(message: str) -> str:
    """Cut a message to 1 KiB and take out what looks like a credential or a piece of a body."""
    for pattern in _SECRETS:
        message = pattern.sub("[redacted]", message)
    message = "".join(c if c.isprintable() else " " for c in message[: _MESSAGE_LIMIT + 1])
    return message if len(message) <= _MESSAGE_LIMIT else message[: _MESSAGE_LIMIT - 1] + "…"


def from_response(status: int, *, headers: Mapping[str, str], body: bytes, request: str = "") -> ApiError:
    """Make an :class:`ApiError` of an HTTP error. Bodies that are not a Status are left out."""
    parsed = _decode(body)
    retry_after = parse_retry_after(headers.get("Retry-After"))
    if parsed is None:
        return ApiError(status=status, message="(no Status in the answer)", retry_after=retry_after, request=request)
    return _of_status(parsed, status=status, retry_after=retry_after, request=request)


def from_status(raw: bytes | msgspec.Raw, *, request: str = "") -> "ApiError | ProtocolError":
    """Make an error of the Status carried by a watch event of type ERROR."""
    parsed = _decode(raw)
    if parsed is None:
        return ProtocolError(f"{request}: ERROR event without a Status")
    return _of_status(parsed, status=parsed.code or 500, retry_after=None, request=request)


def parse_retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header. API servers send seconds, never a date (RFC 9110 10.2.3 knows both)."""
    if value is None or not re.fullmatch(r"[0-9]{1,6}", value.strip()):
        return None
    return float(value)


def _decode(raw: bytes | msgspec.Raw) -> _Status | None:
    try:
        parsed = _status_decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return parsed if parsed.kind == "Status" else None


def _of_status(parsed: _Status, *, status: int, retry_after: float | None, request: str) -> ApiError:
    details = parsed.details or {}
    seconds = details.get("retryAfterSeconds")
    if retry_after is None and isinstance(seconds, int) and seconds > 0:
        retry_after = float(seconds)
    for cause in details.get("causes") or ():
        if isinstance(cause, dict) and isinstance(cause.get("message"), str):
            cause["message"] = redact(cause["message"])
    return ApiError(
        status=status,
        reason=parsed.reason,
        message=parsed.message,
        retry_after=retry_after,
        details=details,
        request=request,
    )
