"""What is said when something of the other side is not accepted."""

from __future__ import annotations


class RefusedError(Exception):
    """The other side asks for what it may not have, or does not show that it is who it says.

    `reason` is one word in CamelCase for a condition; the text names the field and says what to do.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class PendingError(Exception):
    """Something was asked for and is not there yet; the text says whom we wait for."""


def plain(text: str, *, most: int = 2000) -> str:
    """What another cluster said, fit for a status: no control characters, and not too long (abuse test A33)."""
    return "".join(one if one.isprintable() else " " for one in text[:most])
