"""Bringing the copies of one kind in step: the part that is the same for every kind.

Level-based and serial per object: a reconcile looks at the consumer's object and at the provider's, decides, and
writes at most a few requests. Nothing is written when nothing changed. A copy is removed only if the consumer's object
is known to be gone (a watch saw it go, or a GET says so), or is known not to be wanted.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import structlog

from kube.controller import Controller, Result
from kube.election import NotLeader
from kube.errors import ApiError
from kube.objects import revision
from kube.queue import Priority
from kube.store import Change, Evidence, Key
from reflection import ownership
from reflection.kinds import body, statusback
from reflection.kinds.document import Document, document_type
from reflection.kinds.model import Copy, Forged, Kind, Refusal
from reflection.kinds.offloaded import Offloaded
from reflection.kinds.reports import Place
from reflection.kinds.selection import selected
from reflection.kinds.stores import FOLLOWS, REFERS, Listeners, Stores
from reflection.kinds.surroundings import Surroundings
from reflection.kinds.writer import ForeignObjectError, Writer

log = structlog.get_logger(__name__)

GOING_SECONDS = 5.0
DOUBT_SECONDS = 5.0
LASTING_SECONDS = 10.0
"""How long a change has to be wanted that must last (`Kind.lasting`)."""


class KindEngine:
    """Owns the copies of one kind. Keys are (provider namespace, name)."""

    def __init__(self, kind: Kind, around: Surroundings) -> None:
        self.kind = kind
        self._around = around
        settings = around.settings
        parts = (*kind.parts, "status") if kind.status_back is not None else kind.parts
        self._document = document_type(parts)
        self.stores = Stores(
            kind,
            consumer=around.consumer,
            provider=around.provider,
            consumer_id=settings.consumer_id,
            pool=around.pool,
            listeners=Listeners(local=self._local_changed, remote=self._remote_changed, synced=around.others.synced),
            document=self._document,
            resync=settings.resync,
            registry=around.registry,
        )
        self._writer = Writer(
            around.provider,
            kind,
            document=self._document,
            consumer_id=settings.consumer_id,
            check=around.owner.check,
        )
        self._put_aside = False
        self._written: dict[Key, Document] = {}
        self._removed: dict[Key, str] = {}
        self._busy: set[Key] = set()
        self._settled: dict[Key, tuple[str, str]] = {}
        self._wanted: dict[Key, tuple[str, float]] = {}
        self.controller: Controller[Key] = Controller(
            f"kind/{kind.resource_name}", self.reconcile, concurrency=around.concurrency, registry=around.registry
        )

    # -- what wakes it

    def reconsider(self, remote: str | None = None) -> None:
        """Look at every object again, in one provider namespace or in all."""
        for entry in self._around.table.values():
            if remote in (None, entry.remote):
                known = self.stores.keys(entry.namespace, entry.remote)
                for name in known.union(self._around.others.referred(self.kind.resource_name, entry)):
                    self.controller.queue.add((entry.remote, name), priority=Priority.INITIAL)

    def add(self, key: Key) -> None:
        """Look at a consumer's object again."""
        for entry in self._around.table.of(key[0]):
            self.controller.queue.add((entry.remote, key[1]))

    def _local_changed(self, namespace: str, change: Change[Document]) -> None:
        priority = Priority.INITIAL if change.initial else Priority.FRESH
        for entry in self._around.table.of(namespace):
            self.controller.queue.add((entry.remote, change.key[1]), priority=priority)
        self._around.others.moved(self.kind, namespace, change)

    def _remote_changed(self, _namespace: str, change: Change[Document]) -> None:
        own = self._written.get(change.key)
        if own is not None and (change.new is None or not _newer(own, change.new)):
            del self._written[change.key]
        self._removed.pop(change.key, None)
        self.controller.queue.add(change.key, priority=Priority.INITIAL if change.initial else Priority.FRESH)

    def entry_changed(self, old: Offloaded | None, new: Offloaded | None) -> None:
        """A namespace came, went, or is to be treated differently."""
        if new is not None:
            self.stores.open_local(new.namespace)
            self.stores.open_remote(new.remote)
            self.reconsider(new.remote)
        elif old is not None:
            self.stores.close_remote(old.remote)
            if not self._around.table.of(old.namespace):
                self.stores.close_local(old.namespace)

    def resume(self) -> None:
        """This process is the owner: look at what was put aside while it was not."""
        if self._put_aside:
            self._put_aside = False
            self.reconsider()

    # -- which objects

    def left(self, remote: str) -> int:
        """How many copies of ours the provider namespace has, or may have in a moment."""
        known = {*self.stores.made(remote), *self._written, *self._busy}
        return sum(1 for key in known if key[0] == remote)

    def is_selected(self, document: Document, entry: Offloaded, *, referred: bool = False) -> bool:
        """Whether rules and marks want this object at the provider."""
        settings = self._around.settings
        return not entry.leaving and selected(
            self.kind.resource_name,
            document.metadata,
            (settings.rules, *entry.rules),
            any_of=settings.node_rules,
            opt_in=self.kind.opt_in and not referred,
        )

    def following(self, namespace: str, name: str) -> Iterable[Key]:
        """Consumer's objects that go along with the object `name` of the kind that this one follows."""
        store = self.stores.local_store(namespace)
        return [found.metadata.key for found in store.by_index(FOLLOWS, name)] if store is not None else ()

    def references(self, resource: str, namespace: str) -> set[str]:
        """Names of the objects of another kind that any consumer's object here refers to."""
        store = self.stores.local_store(namespace)
        if self.kind.refers is None or store is None:
            return set()
        return {
            ref.name for found in store.values() for ref in self.kind.refers(found.json()) if ref.resource == resource
        }

    def referring(self, resource: str, key: Key) -> Iterable[Document]:
        """Consumer's objects of this kind that refer to another."""
        store = self.stores.local_store(key[0])
        return store.by_index(REFERS, f"{resource}/{key[1]}") if store is not None else ()

    # -- one object

    async def reconcile(self, key: Key) -> Result | None:
        """Bring one copy in step."""
        entry = self._around.table.get(key[0])
        if entry is None:
            return None
        if not self._around.owner.leading:
            self._put_aside = True
            return None
        if not self.stores.local_synced(entry.namespace) or not self.stores.remote_synced(entry.remote):
            return None  # and so does the end of a first list
        self._busy.add(key)
        try:
            return await self._bring_in_step(key, entry)
        except NotLeader:
            self._put_aside = True
            return None
        finally:
            self._busy.discard(key)

    async def _bring_in_step(self, key: Key, entry: Offloaded) -> Result | None:
        origin = (entry.namespace, key[1])
        local = self.stores.local(origin)
        wish = self._wish(local, origin, entry)
        if wish is None:
            return Result(requeue_after=DOUBT_SECONDS)  # whom it goes along with is not known yet
        place = (self.kind.resource_name, origin, entry.remote)
        remote = self._current(key)
        if local is None or not wish:
            self._around.reports.forget(place)
            return await self._see_to_unwanted(origin, local, remote, entry)
        if not self._around.others.knows_enough(self.kind, entry):
            return None
        forged = self.kind.forge(local.json(), self._around.others.context(entry))
        if not isinstance(forged, Copy):
            self._tell(place, local, forged)
            return await self._see_to_unwanted(origin, local, remote, entry)
        return await self._write(key, place, local, remote, forged, entry)

    def _wish(self, local: Document | None, origin: Key, entry: Offloaded) -> bool | None:
        """Whether the consumer's object is to be at the provider; None if that can't be said yet."""
        if entry.leaving:
            return False
        referred = False
        if self.kind.opt_in:
            found = self._around.others.is_referred(self.kind.resource_name, origin, entry)
            if found is None or not self._named(origin, found):
                return None
            referred, local = found, self.stores.local(origin)
        if local is None:
            return False
        if self.kind.follows is not None:
            lead, label = self.kind.follows
            name = local.metadata.labels.get(label)
            follows = self._around.others.is_reflected(lead, (origin[0], name), entry) if name else False
            if not follows:
                return follows
        return self.is_selected(local, entry, referred=referred)

    def _named(self, origin: Key, referred: bool) -> bool:
        """Watch what is referred to by name; whether it is known by now."""
        if not referred:
            self.stores.unname(origin)
            return True
        self.stores.name(origin)
        return self.stores.named_synced(origin)

    def _current(self, key: Key) -> Document | None:
        """The provider's object as the watch shows it, or as our own later write left it."""
        shown, own = self.stores.remote(key), self._written.get(key)
        if own is None or (shown is not None and not _newer(own, shown)):
            return shown
        return own

    async def _write(
        self, key: Key, place: Place, local: Document, remote: Document | None, copy: Copy, entry: Offloaded
    ) -> Result | None:
        settings = self._around.settings
        want = body.wanted(
            copy,
            resource=self.kind.resource,
            origin=local.metadata,
            remote_namespace=entry.remote,
            consumer_id=settings.consumer_id,
            filters=settings.filters,
        )
        if remote is not None and remote.metadata.deletion_timestamp is not None:
            return None  # its end will be told
        if remote is None or not self._in_step(key, want, remote):
            wait = self._lasting(key, want, remote) or self._around.pace.wait(entry.namespace)
            if wait:
                return Result(requeue_after=wait)
            try:
                remote = await self._writer.write(want, remote)
            except ForeignObjectError as error:
                return self._refused(place, local, Refusal("ForeignObject", str(error)))
            except ApiError as error:
                return self._failed(place, local, error)
            self._written[key] = remote
            self._settled[key] = (want.record, remote.metadata.resource_version)
        self._around.reports.tell(place, self.kind.resource, local.metadata, copy.notes)
        if self.kind.status_back is not None:
            self._around.owner.check()
            context = self._around.others.context(entry)
            await statusback.write(self._around.consumer, self.kind, local, remote, context)
        return None

    def _lasting(self, key: Key, want: body.Wanted, remote: Document | None) -> float:
        """Seconds until the change may be made; 0: now."""
        if remote is None or not self.kind.lasting({**want.parts}, remote.json()):
            self._wanted.pop(key, None)
            return 0.0
        record, since = self._wanted.get(key, ("", 0.0))
        now = time.monotonic()
        if record != want.record:
            self._wanted[key] = (want.record, now)
            return LASTING_SECONDS
        return max(0.0, since + LASTING_SECONDS - now)

    def _in_step(self, key: Key, want: body.Wanted, remote: Document) -> bool:
        """All is as wanted, or as the provider made it of our last write (defaults, its admission)."""
        if body.in_step(want, remote.json(), exact=self.kind.exact):
            return True
        return self._settled.get(key) == (want.record, remote.metadata.resource_version)

    async def _see_to_unwanted(
        self, origin: Key, local: Document | None, remote: Document | None, entry: Offloaded
    ) -> Result | None:
        if remote is None or not body.is_made(remote.metadata) or ownership.origin_key(remote.metadata) != origin:
            return None
        key = (entry.remote, origin[1])
        if self._removed.get(key) == remote.metadata.uid:
            return None  # the watch has yet to show it
        if local is None and not entry.leaving:
            if not await self._is_gone(origin, remote, entry):
                return Result(requeue_after=DOUBT_SECONDS)
            shown = self._current(key)
            if shown is None or shown.metadata.uid != remote.metadata.uid:
                return None  # the watch has shown its end meanwhile
        if await self._writer.remove(remote):
            self._removed[key] = remote.metadata.uid
        if local is not None:
            await statusback.clear(self._around.consumer, self.kind, local, self._around.others.context(entry))
        self._written.pop(key, None)
        self._settled.pop(key, None)
        self._wanted.pop(key, None)
        return None

    async def _is_gone(self, origin: Key, remote: Document, entry: Offloaded) -> bool:
        """Whether the consumer's object is proven gone, or not wanted: a list alone proves nothing (F12)."""
        store = self.stores.local_store(origin[0])
        grave = store.tombstone(origin) if store is not None else None
        if (
            grave is not None
            and grave.evidence is Evidence.WATCH
            and grave.uid == ownership.origin_uid(remote.metadata)
        ):
            return True
        try:
            found = await self._around.consumer.get(
                self.kind.resource, name=origin[1], namespace=origin[0], decode=self._document
            )
        except ApiError as error:
            if error.not_found:
                return True
            raise
        return not self.is_selected(found, entry)

    # -- what to tell

    def _tell(self, place: Place, local: Document, forged: Forged) -> None:
        found = (forged,) if isinstance(forged, Refusal) else ()
        self._around.reports.tell(place, self.kind.resource, local.metadata, found)

    def _refused(self, place: Place, local: Document, refusal: Refusal) -> Result:
        self._tell(place, local, refusal)
        return Result(requeue_after=self._around.settings.retry)

    def _failed(self, place: Place, local: Document, error: ApiError) -> Result:
        """The provider says no: tell so, where trying again at once would not help."""
        missing = error.not_found and error.details.get("kind") == "namespaces"
        if missing or (error.forbidden and "being terminated" in error.message):
            self._tell(place, local, Refusal("NamespaceNotReady", f"{place[2]}: {error.message}"))
            return Result(requeue_after=GOING_SECONDS)
        if error.invalid or error.forbidden:
            return self._refused(place, local, Refusal("ProviderRefused", error.message))
        raise error


def _newer(one: Document, other: Document) -> bool:
    """Whether `one` is a later state than `other`."""
    ours, theirs = revision(one.metadata.resource_version), revision(other.metadata.resource_version)
    return ours is not None and theirs is not None and ours > theirs
