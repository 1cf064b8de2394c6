"""How this server says no: plain text with the kubelet's wording and code."""

from __future__ import annotations

import unicodedata

import msgspec

MAX_MESSAGE = 16_384
"""Longest text of an error we pass on, in characters; the API server itself reads 50,000 bytes at most."""

_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class RequestError(Exception):
    """A request ends with this code and this text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class _Status(msgspec.Struct):
    """The fields of a metav1.Status that are of use to a reader."""

    kind: str = ""
    message: str = ""
    reason: str = ""


def printable(text: str) -> str:
    """Text of the other cluster made safe for a terminal: control and bidi characters escaped, length bounded."""
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in _UNPRINTABLE else c.encode("unicode_escape").decode()
        for c in text[:MAX_MESSAGE]
    )


def read_status(body: bytes) -> tuple[str, str]:
    """Message and reason of an API server's error body: unwrapped from a Status, or the text itself. Both printable."""
    try:
        status = msgspec.json.decode(body, type=_Status)
    except msgspec.DecodeError:
        status = _Status()
    if status.kind == "Status":
        return printable(status.message), printable(status.reason)
    return printable(body.decode("utf-8", "replace")), ""


def write_status(*, code: int, message: str, reason: str) -> bytes:
    """A metav1.Status as clients of exec and port-forward unwrap it."""
    return msgspec.json.encode(
        {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
        }
    )
