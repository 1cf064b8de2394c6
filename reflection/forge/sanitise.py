"""Checking what a provider reports before it becomes part of the consumer's objects.

The provider is not trusted: a value of the wrong type, out of range, too long, or able to play tricks on a terminal
must neither reach the consumer as it is nor make its API server refuse the whole status. Each function returns a
harmless value or None ("drop it"), is idempotent, and never raises on decoded JSON.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

REASON_LIMIT: Final = 256
MESSAGE_LIMIT: Final = 4096
"""Bytes; a kubelet keeps as much of a termination message (MaxContainerTerminationMessageLength)."""

_INT32: Final = 2**31 - 1
_INT64: Final = 2**63 - 1
_MAX_ENTRIES: Final = 64

# C0 and C1 controls but for tab and newline, zero-width and bidirectional controls, line separators, tags, byte order
# mark, lone surrogates: what changes how the text around it is shown.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_QUANTITY = re.compile(r"[+-]?(\d{1,30}(\.\d{0,30})?|\.\d{1,30})([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d{1,2})?")
_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]{0,251}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


def text(value: object, *, limit: int) -> str | None:
    """Escape what a terminal or reader might be fooled by (as \\x1b, \\u202e), and cut to `limit` bytes."""
    if not isinstance(value, str):
        return None
    safe = value if value.isascii() and value.isprintable() else _UNSAFE.sub(_escape, value)
    if len(safe) <= limit and (safe.isascii() or len(safe.encode()) <= limit):
        return safe
    return safe.encode()[: limit - 3].decode(errors="ignore") + "..."


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def reason(value: object) -> str | None:
    """Clean a CamelCase reason."""
    return text(value, limit=REASON_LIMIT)


def message(value: object) -> str | None:
    """Clean a message."""
    return text(value, limit=MESSAGE_LIMIT)


def flag(value: object) -> bool | None:
    """Accept a boolean."""
    return value if isinstance(value, bool) else None


def count(value: object) -> int:
    """Give a restart count: an int32, not negative; anything else counts as 0."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        return 0
    return min(value, _INT32)


def exit_code(value: object) -> int | None:
    """Accept an exit code or signal number: any int32."""
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _INT32:
        return None
    return value


def user_id(value: object) -> int | None:
    """Accept a Linux uid or gid as Kubernetes validates them: 0 to 2^31 - 1."""
    number = exit_code(value)
    return number if number is not None and number >= 0 else None


@lru_cache(maxsize=4096)
def _timestamp(value: str) -> str | None:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    try:
        return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")
    except (OverflowError, ValueError):
        return None


def timestamp(value: object) -> str | None:
    """Accept a metav1.Time; whole seconds in UTC, as API servers store it, so that it compares equal later."""
    return _timestamp(value) if isinstance(value, str) and len(value) <= 40 else None


def quantities(value: object) -> dict[str, str] | None:
    """Accept a resource list: name -> quantity. Entries that are none are dropped."""
    if not isinstance(value, Mapping):
        return None
    found = {}
    for name, amount in value.items():
        if isinstance(amount, str) and _QUANTITY.fullmatch(amount) and _NAME.fullmatch(name):
            found[name] = amount
        if len(found) >= _MAX_ENTRIES:
            break
    return found


def objects(value: object, *, limit: int = _MAX_ENTRIES) -> list[dict[str, Any]]:
    """Give the objects in a list, at most `limit`; nothing if it is no list."""
    if not isinstance(value, list):
        return []
    return [entry for entry in value[:limit] if isinstance(entry, dict)]


def mapping(value: object) -> dict[str, Any]:
    """Give an object, or an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def one_of(value: object, allowed: frozenset[str]) -> str | None:
    """Accept one of a closed set of words."""
    return value if isinstance(value, str) and value in allowed else None


@lru_cache(maxsize=16384)
def address(value: str) -> str | None:
    """Accept an IP address that a pod may have, in canonical text.

    Loopback, link-local (metadata services), multicast, unspecified and reserved addresses are none, nor are IPv4
    addresses in IPv6 clothes, which pass filters meant for the former.
    """
    try:
        ip = ipaddress.ip_address(value)
    except ValueError:
        return None
    if ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return None
    if isinstance(ip, ipaddress.IPv4Address):
        return None if ip.is_reserved or ip.packed[0] == 0 else str(ip)
    return None if ip.scope_id is not None or ip.ipv4_mapped is not None or ip.packed[:12] == bytes(12) else str(ip)


def keep(pairs: Mapping[str, Any]) -> dict[str, Any]:
    """Drop the entries that are None."""
    return {key: value for key, value in pairs.items() if value is not None}
