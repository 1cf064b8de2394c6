"""What we know of the objects of one kind: a keyed map with indexes, and the graves of those that left.

A store never goes back in time by itself: an object is replaced only by a newer one of the same UID
or by a later one of the same name. Of what left it keeps *how* that is known (:class:`Evidence`),
for a remote pod may be deleted only on proof that its origin is gone.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, ValuesView
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

import structlog

from kube.objects import HasMetadata, Metadata, revision

_log = structlog.get_logger(__name__)

T = TypeVar("T", bound=HasMetadata)

Key = tuple[str, str]
Index = Callable[[T], Iterable[str]]

_TOMBSTONES = 16_384
# A list that lacks more than this share of what was known (and more than a handful), or all of it, is doubted (F12).
_SUSPECT_SHARE = 0.2
_SUSPECT_COUNT = 5


class Evidence(Enum):
    """How it is known that an object is gone (from the selection that was watched)."""

    WATCH = "watch"  # a DELETED event, or a later object of the same name, in an unbroken watch
    LIST = "list"  # absent from a complete, consistent list
    SUSPECT = "suspect"  # absent from such a list, but a large share vanished at once: confirm by GET


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What is left of an object. ``resource_version`` is the last one it was seen with."""

    uid: str
    evidence: Evidence
    resource_version: str = ""


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """A key whose object appeared, changed or left. ``initial``: part of the first list."""

    key: Key
    old: T | None
    new: T | None
    initial: bool


class Store(Generic[T]):
    """The reader's side. Objects are immutable and shared."""

    def __init__(self, *, indexes: Mapping[str, Index[T]] | None = None, kept: Callable[[T], T] | None = None) -> None:
        self._kept = kept
        self._items: dict[Key, T] = {}
        self._functions: Mapping[str, Index[T]] = dict(indexes or {})
        self._indexes: dict[str, dict[str, dict[Key, None]]] = {name: {} for name in self._functions}
        self._tombstones: OrderedDict[Key, Tombstone] = OrderedDict()

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def get(self, key: Key) -> T | None:
        """The object of a key, or None."""
        return self._items.get(key)

    def keys(self) -> list[Key]:
        """All keys, as of now."""
        return list(self._items)

    def values(self) -> ValuesView[T]:
        """All objects; do not await while iterating."""
        return self._items.values()

    def by_index(self, name: str, value: str) -> list[T]:
        """The objects for which the index function ``name`` gave ``value``. KeyError for an unknown index."""
        return [self._items[key] for key in self._indexes[name].get(value, ())]

    def any_by_index(self, name: str, value: str) -> bool:
        """Whether `by_index` would give anything, at no cost."""
        return bool(self._indexes[name].get(value))

    def tombstone(self, key: Key) -> Tombstone | None:
        """What is known of the last object of this name that left; None when long ago or never."""
        return self._tombstones.get(key)


class MutableStore(Store[T]):
    """The writer's side, for the one reflector that owns it."""

    def upsert(self, item: T, *, initial: bool = False) -> Change[T] | None:
        """Take an object from a watch event. None if it is nothing new (a duplicate, a replay)."""
        key = item.metadata.key
        old = self._items.get(key)
        if old is None:
            grave = self._tombstones.get(key)
            if grave is not None and not _later(item.metadata, grave.resource_version, same=grave.uid):
                return None
        elif not _later(item.metadata, old.metadata.resource_version, same=old.metadata.uid):
            return None
        elif old.metadata.uid != item.metadata.uid:
            self._bury(old.metadata, Evidence.WATCH)
        self._put(key, old, item)
        return Change(key, old, item, initial)

    def remove(self, metadata: Metadata) -> Change[T] | None:
        """Take a DELETED event. None if the object is not there, another one by now, or newer."""
        key = metadata.key
        old = self._items.get(key)
        if old is None or old.metadata.uid != metadata.uid:
            return None
        ours, theirs = revision(old.metadata.resource_version), revision(metadata.resource_version)
        if ours is not None and theirs is not None and theirs < ours:
            return None
        self._drop(key, old)
        self._bury(metadata, Evidence.WATCH)
        return Change(key, old, None, initial=False)

    def replace(
        self,
        items: Mapping[Key, T],
        *,
        resource_version: str,
        undecodable: Collection[Key] = (),
        initial: bool = False,
        force: bool = False,
    ) -> list[Change[T]]:
        """Take a complete list at once and return what differs.

        Objects newer than the list stay as they are, and so do ``undecodable`` ones, which exist.
        With ``force`` the list is taken although it is older than what we know (the server's
        data was restored from a backup); everything that vanishes is then SUSPECT.
        """
        vanished = self._vanished(items, resource_version=resource_version, undecodable=undecodable, force=force)
        many = len(vanished) >= _SUSPECT_COUNT and len(vanished) > _SUSPECT_SHARE * len(self._items)
        doubtful = force or many or (bool(vanished) and len(vanished) == len(self._items))
        evidence = Evidence.SUSPECT if doubtful else Evidence.LIST
        changes: list[Change[T]] = []
        for key in vanished:
            old = self._items[key]
            self._drop(key, old)
            self._bury(old.metadata, evidence)
            changes.append(Change(key, old, None, initial))
        for key, item in items.items():
            current = self._items.get(key)
            if current is not None and not self._supersedes(item, current, force=force):
                continue
            if current is not None and current.metadata.uid != item.metadata.uid:
                self._bury(current.metadata, Evidence.LIST)
            self._put(key, current, item)
            changes.append(Change(key, current, item, initial))
        return changes

    def _vanished(
        self, items: Mapping[Key, T], *, resource_version: str, undecodable: Collection[Key], force: bool
    ) -> list[Key]:
        listed = revision(resource_version)

        def known_later(item: T) -> bool:
            own = revision(item.metadata.resource_version)
            return not force and own is not None and listed is not None and own > listed

        absent = (key for key in self._items if key not in items and key not in undecodable)
        return [key for key in absent if not known_later(self._items[key])]

    @staticmethod
    def _supersedes(item: T, current: T, *, force: bool) -> bool:
        if force:
            return item.metadata.resource_version != current.metadata.resource_version
        return _later(item.metadata, current.metadata.resource_version, same=current.metadata.uid)

    def _put(self, key: Key, old: T | None, new: T) -> None:
        if old is not None:
            self._unindex(key, old)
        stays = new if self._kept is None else self._kept(new)
        self._items[key] = stays
        for name in self._functions:
            for value in self._values(name, stays):
                self._indexes[name].setdefault(value, {})[key] = None

    def _drop(self, key: Key, old: T) -> None:
        self._unindex(key, old)
        del self._items[key]

    def _unindex(self, key: Key, old: T) -> None:
        for name in self._functions:
            index = self._indexes[name]
            for value in self._values(name, old):
                keys = index.get(value)
                if keys is not None:
                    keys.pop(key, None)
                    if not keys:
                        del index[value]

    def _values(self, name: str, item: T) -> Collection[str]:
        try:
            return tuple(self._functions[name](item))
        except Exception:  # noqa: BLE001 - an object that an index cannot read must not stop the others (F37)
            _log.exception("index_failed", index=name, object="/".join(item.metadata.key))
            return ()

    def _bury(self, metadata: Metadata, evidence: Evidence) -> None:
        key = metadata.key
        self._tombstones.pop(key, None)
        self._tombstones[key] = Tombstone(metadata.uid, evidence, metadata.resource_version)
        if len(self._tombstones) > _TOMBSTONES:
            self._tombstones.popitem(last=False)


def _later(metadata: Metadata, known: str, *, same: str) -> bool:
    """Whether an object is newer than resourceVersion ``known`` of the object with UID ``same``."""
    if metadata.resource_version == known:
        return metadata.uid != same
    ours, theirs = revision(metadata.resource_version), revision(known)
    # Versions that are not numbers cannot be ordered: take what comes.
    return ours is None or theirs is None or ours > theirs
