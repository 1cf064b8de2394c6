"""The reflected kinds of one provider, put together: what wakes what across kinds, namespaces and ownership."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

import prometheus_client

from kube.client import Client
from kube.events import EventRecorder, clean
from kube.store import Change, Key
from reflection.kinds import table as kinds_table
from reflection.kinds.document import Document
from reflection.kinds.engine import KindEngine
from reflection.kinds.model import AddressTranslation, Context, Identity, Kind
from reflection.kinds.offloaded import NamespaceTable, Offloaded
from reflection.kinds.owner import Ownership
from reflection.kinds.pace import Pace
from reflection.kinds.pods import RemotePods
from reflection.kinds.pool import ReflectorPool
from reflection.kinds.reports import Problem, Reports
from reflection.kinds.settings import KindSettings
from reflection.kinds.surroundings import Surroundings

_LOOK = 0.25


class Reflection:
    """Owns all reflected kinds of one provider. Start `cache_tasks`, then `worker_tasks`."""

    def __init__(
        self,
        settings: KindSettings,
        *,
        consumer: Client,
        provider: Client,
        recorder: EventRecorder,
        owner: Ownership,
        kinds: Iterable[Kind] = kinds_table.DEFAULT,
        translation: AddressTranslation | None = None,
        registry: prometheus_client.CollectorRegistry | None = None,
    ) -> None:
        self._settings = settings
        self.owner = owner
        """Which process does what is namespace-wide at this provider."""
        self._translation = translation or Identity()
        self._nodes: frozenset[str] | None = None
        self._pool = ReflectorPool()
        self._pace = Pace()
        self._reports = Reports(recorder, provider=settings.provider)
        self._contexts: dict[str, Context] = {}
        self._wanted: list[Offloaded] | None = None
        self.names_changed: list[Callable[[Mapping[str, str]], None]] = []
        """Told which namespaces are reflected, and what they are called at the provider."""
        self.problems_changed = self._reports.changed
        """Told a consumer namespace of which `problems` says something else now."""
        self._table = NamespaceTable(changed=self._entry_changed)
        around = Surroundings(
            consumer=consumer,
            provider=provider,
            settings=settings,
            table=self._table,
            owner=owner,
            others=self,
            reports=self._reports,
            pool=self._pool,
            pace=self._pace,
            registry=registry,
        )
        self._pods = RemotePods(
            provider,
            consumer_id=settings.consumer_id,
            pool=self._pool,
            changed=self._pods_changed,
            resync=settings.resync,
            registry=registry,
        )
        self._engines: dict[str, KindEngine] = {kind.resource_name: KindEngine(kind, around) for kind in kinds}

    # -- tasks

    def cache_tasks(self) -> Iterable[tuple[str, Callable[[], Awaitable[None]]]]:
        """What must run before decisions can be made. Also runs in a process that is not the owner, which can then take
        over at once."""
        return (("kinds: watches", self._pool.run),)

    def worker_tasks(self) -> Iterable[tuple[str, Callable[[], Awaitable[None]]]]:
        """What decides and writes."""
        engines = [(f"kinds: {name}", engine.controller.run) for name, engine in self._engines.items()]
        return (("kinds: ownership", self.owner.run), ("kinds: owner's work", self._take_over), *engines)

    async def run(self) -> None:
        """All tasks at once, for who has no supervisor. Ends only by cancellation or a programming error."""
        async with asyncio.TaskGroup() as group:
            for name, task in (*self.cache_tasks(), *self.worker_tasks()):
                group.create_task(_awaited(task), name=name)

    async def _take_over(self) -> None:
        """What was put aside while this process was not the owner is looked at when it is."""
        while True:
            await self.owner.won()
            for engine in self._engines.values():
                engine.resume()
            await asyncio.sleep(_LOOK)

    # -- inputs that change at run time

    def set_namespaces(self, entries: Iterable[Offloaded]) -> None:
        """Say which namespaces are reflected: the whole set. ValueError if two share a counterpart."""
        wanted = list(entries)
        if wanted == self._wanted:
            return  # said with every change of any NamespaceOffloading's status
        self._contexts.clear()
        self._table.replace(wanted)
        self._wanted = wanted
        for listener in self.names_changed:
            listener(self._table.names())
        self.reconsider()

    def set_nodes(self, nodes: Iterable[str]) -> None:
        """Say which virtual nodes are this provider's: the endpoints on them it has itself. Before this has been said,
        no endpoints are reflected."""
        found = frozenset(nodes)
        if found != self._nodes:
            self._nodes = found
            self._contexts.clear()
            self.reconsider()

    def reconsider(self) -> None:
        """Something that forge functions depend on changed, such as addresses' translation."""
        for engine in self._engines.values():
            engine.reconsider()

    def _entry_changed(self, old: Offloaded | None, new: Offloaded | None) -> None:
        self._contexts.clear()
        if old is not None and (new is None or new.leaving):
            self._pods.close(old.remote)
        if old is not None and new is None:
            self._pace.forget(old.namespace)
        for engine in self._engines.values():
            engine.entry_changed(old, new)

    # -- what others ask

    def problems(self, namespace: str) -> list[Problem]:
        """What is not, or not wholly, reflected of a consumer namespace, and why; without a name: the whole kind."""
        found = self._reports.problems(namespace)
        for entry in self._table.of(namespace):
            for name, engine in self._engines.items():
                error = engine.stores.obstacle(namespace, remote=entry.remote)
                if error is not None:
                    found.append(Problem(name, namespace, "", "NotWatched", clean(str(error))))
        return found

    def healthy(self) -> bool:
        """Whether every watch is up."""
        return all(engine.stores.healthy() for engine in self._engines.values())

    def is_empty(self, remote: str) -> bool | None:
        """Whether nothing that we made is left in the provider namespace of a leaving entry; None: not known yet."""
        left = 0
        for engine in self._engines.values():
            if engine.stores.cannot_list(remote):
                continue
            if not engine.stores.remote_synced(remote):
                return None
            left += engine.left(remote)
        return left == 0

    # -- what the kinds ask of one another

    def synced(self, namespace: str) -> None:
        """See `surroundings.Others`."""
        for entry in self._table.values():
            if namespace in (entry.namespace, entry.remote):
                for engine in self._engines.values():
                    engine.reconsider(entry.remote)
                for listener in self.problems_changed:
                    listener(entry.namespace)  # what could not be watched can be now

    def context(self, entry: Offloaded) -> Context:
        """See `surroundings.Others`."""
        found = self._contexts.get(entry.remote)
        if found is None:
            settings = self._settings
            found = self._contexts[entry.remote] = Context(
                consumer_id=settings.consumer_id,
                provider=settings.provider,
                namespace=entry.namespace,
                remote_namespace=entry.remote,
                nodes=self._nodes or frozenset(),
                translation=self._translation,
                classes=settings.classes,
                families=settings.families,
                external_ips=settings.external_ips,
                external_names=settings.external_names,
                namespaces=self._table.names(),
                healthy_pods=lambda selector: self._pods.healthy(entry.remote, selector),
            )
        return found

    def referred(self, resource: str, entry: Offloaded) -> Iterable[str]:
        """See `surroundings.Others`."""
        return set().union(*(engine.references(resource, entry.namespace) for engine in self._engines.values()))

    def knows_enough(self, kind: Kind, entry: Offloaded) -> bool:
        """See `surroundings.Others`."""
        if kind.knows_nodes and self._nodes is None:
            return False
        return not kind.counts_pods or self._pods.known(entry.remote)

    def _pods_changed(self, remote: str) -> None:
        for engine in self._engines.values():
            if engine.kind.counts_pods:
                engine.reconsider(remote)

    def is_reflected(self, resource: str, key: Key, entry: Offloaded) -> bool | None:
        """See `surroundings.Others`. A kind that is not reflected at all has nobody that follows it."""
        engine = self._engines.get(resource)
        if engine is None:
            return False
        if not engine.stores.local_synced(key[0]):
            return None
        found = engine.stores.local(key)
        return found is not None and engine.is_selected(found, entry)

    def is_referred(self, resource: str, key: Key, entry: Offloaded) -> bool | None:
        """See `surroundings.Others`."""
        for engine in self._engines.values():
            if engine.kind.refers is None:
                continue
            if not engine.stores.local_synced(key[0]):
                return None
            if any(engine.is_selected(found, entry) for found in engine.referring(resource, key)):
                return True
        return False

    def moved(self, kind: Kind, namespace: str, change: Change[Document]) -> None:
        """See `surroundings.Others`."""
        for engine in self._engines.values():
            if engine.kind.follows is not None and engine.kind.follows[0] == kind.resource_name:
                for key in engine.following(namespace, change.key[1]):
                    engine.add(key)
        if kind.refers is not None:
            for document in (change.old, change.new):
                for ref in kind.refers(document.json()) if document is not None else ():
                    engine_of = self._engines.get(ref.resource)
                    if engine_of is not None:
                        engine_of.add((namespace, ref.name))


async def _awaited(task: Callable[[], Awaitable[None]]) -> None:
    await task()
