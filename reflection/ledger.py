"""What we wrote and the caches have yet to show.

A cache lags behind our own writes. Acting on it alone would create a pod twice, patch a status that was just
patched, or call a pod lost that was made a moment ago. The ledger bridges that gap, and forgets as the caches
catch up. It is memory only: after a restart complete lists take its place.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from kube.objects import Object
from kube.store import Key, Store

ASSUMED_SECONDS = 30.0
"""How long a remote pod that we made is believed in without the cache showing it."""


def newer(one: str, other: str) -> bool:
    """Whether resourceVersion `one` is later than `other`: as integers (KEP-5504), else by being different."""
    if one.isdigit() and other.isdigit():
        return int(one) > int(other)
    return one != other


@dataclass(slots=True)
class Entry:
    """Our unseen writes for one pod."""

    assumed: Object | None = None  # remote pod that a create returned
    assumed_at: float = 0.0  # when, by the monotonic clock
    in_doubt: bool = False  # a create had no answer: there may be a remote pod
    remote_version: str = ""  # resourceVersion of our last write to the remote pod
    origin_version: str = ""  # ... and to the consumer's
    deleting: tuple[str, int] | None = None  # remote UID and grace period of the delete that was sent
    departed: Object | None = None  # last state of a remote pod that is gone
    removed: tuple[str, float] | None = None  # UID of the consumer's pod whose removal it accepted, and when
    reported: str = ""  # last problem told to the user, so that it is told once
    refused_generation: int = 0  # generation of the consumer's pod of which the provider refused a change
    refused_change: str = ""  # what the provider's manager last said against a change, so that it is told once
    waits: str = ""  # why its namespace is not ready, so that it is told once
    told: str = ""  # UID of the remote pod that is gone and whose last state was told


class Ledger:
    """One entry a pod, made on first use."""

    def __init__(self) -> None:
        self._entries: dict[Key, Entry] = {}

    def __getitem__(self, key: Key) -> Entry:
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = Entry()
        return entry

    def __len__(self) -> int:
        return len(self._entries)

    def peek(self, key: Key) -> Entry | None:
        """The entry if there is one."""
        return self._entries.get(key)

    def forget(self, key: Key) -> None:
        """Both pods are gone."""
        self._entries.pop(key, None)

    def remote(self, key: Key, store: Store[Object], remote_key: Key) -> Object | None:
        """The remote pod: as the cache has it, or as our create returned it if that is later."""
        cached = store.get(remote_key)
        entry = self._entries.get(key)
        if entry is None or entry.assumed is None:
            return cached
        assumed = entry.assumed
        if cached is not None:
            same = cached.metadata.uid == assumed.metadata.uid
            if same or newer(cached.metadata.resource_version, assumed.metadata.resource_version):
                entry.assumed = None
                return cached
            return assumed
        tombstone = store.tombstone(remote_key)
        if tombstone is not None and tombstone.uid == assumed.metadata.uid:
            entry.assumed = None
            return None
        return assumed

    def is_overdue(self, key: Key) -> bool:
        """Whether the cache should long have shown the remote pod that we made: it may have come and gone unseen."""
        entry = self._entries.get(key)
        return entry is not None and entry.assumed is not None and time.monotonic() - entry.assumed_at > ASSUMED_SECONDS

    def origin_is_behind(self, key: Key, origin: Object) -> bool:
        """Whether the cache has yet to show our last write to the consumer's pod."""
        entry = self._entries.get(key)
        return bool(entry and entry.origin_version and newer(entry.origin_version, origin.metadata.resource_version))

    def remote_is_behind(self, key: Key, remote: Object) -> bool:
        """Whether the cache has yet to show our last write to the remote pod."""
        entry = self._entries.get(key)
        return bool(entry and entry.remote_version and newer(entry.remote_version, remote.metadata.resource_version))
