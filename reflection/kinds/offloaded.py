"""Which namespaces are reflected, and whereto: an input that changes at run time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from reflection.kinds.selection import Rules


@dataclass(frozen=True, slots=True)
class Offloaded:
    """One consumer namespace and its counterpart at the provider."""

    namespace: str
    remote: str
    rules: tuple[Rules, ...] = ()
    """Levels besides the one that holds everywhere: the namespace's, the virtual nodes'."""
    leaving: bool = False
    """Offloaded no more: what was made at the provider is removed. Said explicitly, for a namespace that is merely not
    in the table any more may be so by mistake; then the copies stay and nobody looks after them."""


class NamespaceTable:
    """The current set, by provider namespace. A provider namespace is the counterpart of one consumer namespace."""

    def __init__(self, *, changed: Callable[[Offloaded | None, Offloaded | None], None]) -> None:
        self._changed = changed
        self._by_remote: dict[str, Offloaded] = {}

    def replace(self, entries: Iterable[Offloaded]) -> None:
        """Make this the whole set, and tell each difference as (old, new). ValueError if two share a counterpart."""
        wanted: dict[str, Offloaded] = {}
        for entry in entries:
            if entry.remote in wanted:
                raise ValueError(f"two consumer namespaces are mapped to the provider namespace {entry.remote!r}")
            wanted[entry.remote] = entry
        before, self._by_remote = self._by_remote, wanted
        for remote in before.keys() | wanted.keys():
            old, new = before.get(remote), wanted.get(remote)
            if old != new:
                self._changed(old, new)

    def get(self, remote: str) -> Offloaded | None:
        """The entry of a provider namespace."""
        return self._by_remote.get(remote)

    def values(self) -> list[Offloaded]:
        """All entries."""
        return list(self._by_remote.values())

    def of(self, namespace: str) -> list[Offloaded]:
        """The entries of a consumer namespace: at most one that is not leaving."""
        return [entry for entry in self._by_remote.values() if entry.namespace == namespace]

    def names(self) -> dict[str, str]:
        """Consumer namespace -> provider namespace, of those that are not leaving."""
        return {entry.namespace: entry.remote for entry in self._by_remote.values() if not entry.leaving}
