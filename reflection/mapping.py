"""Which provider namespace a consumer namespace is reflected to. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

MAX_NAME = 63  # RFC 1123 label: the limit for a namespace's name


class NamespaceNotMappedError(Exception):
    """A consumer namespace has no counterpart at the provider, or nothing new may go there."""

    def __init__(self, namespace: str, why: str = "") -> None:
        advice = f"is not mapped to the provider: add --namespace {namespace}=<provider namespace>"
        super().__init__(f"namespace {namespace!r} {why or advice}")
        self.namespace = namespace


class NamespaceMapping(Protocol):
    """From a consumer's namespace to the provider's."""

    @property
    def managed(self) -> bool:
        """Whether the provider's namespaces are ours to make and remove."""

    def remote(self, namespace: str) -> str:
        """The provider's namespace; raises `NamespaceNotMappedError`."""

    def admits(self, namespace: str) -> None:
        """Raise `NamespaceNotMappedError` if nothing new may go there, though what is there has a counterpart."""

    def holds(self, namespace: str) -> bool:
        """Whether the provider's namespace is to stay though no pod uses it."""

    def known(self) -> Iterable[str]:
        """The provider namespaces that are known before any pod is seen."""


@dataclass(frozen=True, slots=True)
class FixedMapping:
    """The user named each pair; nothing is made or removed at the provider."""

    pairs: Mapping[str, str] = field(default_factory=dict)
    managed: bool = False

    def __post_init__(self) -> None:
        """Two consumer namespaces in one provider namespace would let equal pod names collide."""
        if len(set(self.pairs.values())) != len(self.pairs):
            raise ValueError("two consumer namespaces are mapped to the same provider namespace")

    def remote(self, namespace: str) -> str:
        """See `NamespaceMapping`."""
        try:
            return self.pairs[namespace]
        except KeyError:
            raise NamespaceNotMappedError(namespace) from None

    def admits(self, namespace: str) -> None:
        """See `NamespaceMapping`."""

    def holds(self, namespace: str) -> bool:
        """See `NamespaceMapping`. They are not ours."""
        return True

    def known(self) -> Iterable[str]:
        """See `NamespaceMapping`."""
        return self.pairs.values()


@dataclass(frozen=True, slots=True)
class DefaultName:
    """`<namespace>-<consumer id>`, shortened by a hash where that exceeds a namespace's name."""

    consumer_id: str
    managed: bool = True

    def remote(self, namespace: str) -> str:
        """See `NamespaceMapping`."""
        return default_name(namespace, consumer_id=self.consumer_id)

    def admits(self, namespace: str) -> None:
        """See `NamespaceMapping`."""

    def holds(self, namespace: str) -> bool:
        """See `NamespaceMapping`. They come and go with the pods."""
        return False

    def known(self) -> Iterable[str]:
        """See `NamespaceMapping`."""
        return ()


def default_name(namespace: str, *, consumer_id: str) -> str:
    """`<namespace>-<consumer id>`, shortened by a hash where that exceeds a namespace's name."""
    name = f"{namespace}-{consumer_id}"
    if len(name) <= MAX_NAME:
        return name
    digest = hashlib.sha256(namespace.encode()).hexdigest()[:8]
    room = MAX_NAME - len(consumer_id) - len(digest) - 2
    return f"{namespace[:room].rstrip('-')}-{digest}-{consumer_id}"
