"""Why the provider makes no pod, or passes on no change: one word for programs, a text for the pod's owner. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kube.errors import ApiError
from kube.store import Key
from reflection.forge import sanitise
from reflection.managed.checks import Violation

RETRY: Final = 60.0
"""Seconds until what was refused is tried again: the provider's rules may have changed."""
QUOTA_RETRY: Final = 5.0
_SHOWN: Final = 5
_KNOWN: Final = (
    ("violates PodSecurity", "PodSecurity", RETRY),
    ("exceeded quota", "QuotaExceeded", QUOTA_RETRY),
    ("failed quota", "QuotaExceeded", QUOTA_RETRY),
    ("being terminated", "NamespaceGoing", QUOTA_RETRY),
    ("admission webhook", "AdmissionDenied", RETRY),
    ("ValidatingAdmissionPolicy", "AdmissionDenied", RETRY),
)
"""What an API server's refusal says, and our word for it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """`retry` in seconds."""

    reason: str
    message: str
    retry: float = RETRY


NOT_MAPPED: Final = Refusal("NotMapped", "the namespace is no consumer's at this provider: ask by a NamespaceMap", 5.0)


def forbidden(violations: Sequence[Violation]) -> Refusal:
    """What our own checks found."""
    shown = "; ".join(map(str, violations[:_SHOWN]))
    more = f"; and {len(violations) - _SHOWN} more" if len(violations) > _SHOWN else ""
    return Refusal("Forbidden", sanitise.message(shown + more) or "")


def is_too_early(error: ApiError) -> bool:
    """Whether the namespace is so new that its service account is not there yet."""
    return error.forbidden and "error looking up service account" in error.message


def of(error: ApiError) -> Refusal:
    """What the provider's API server said to a pod."""
    message = sanitise.message(error.message) or error.reason
    for text, reason, retry in _KNOWN:
        if text in error.message:
            return Refusal(reason, message, retry)
    return Refusal("Invalid" if error.status in (400, 422) else "Denied", message)


def change(error: ApiError) -> Refusal:
    """What it said to a change."""
    return Refusal("ChangeRefused", sanitise.message(error.message) or error.reason)


def taken(key: Key) -> Refusal:
    """The name is a stranger's."""
    text = f"the provider has a pod {key[0]}/{key[1]} that isthmus did not make; remove or rename one of the two"
    return Refusal("NameTaken", text)
