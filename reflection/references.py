"""ConfigMaps and Secrets go to the provider because an offloaded pod names them, and for as long as one does.

Each named object is watched by itself at the consumer: a node's identity may read the objects that pods
bound to it reference, and no others (Node authoriser). A real kubelet does the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import prometheus_client
import structlog

from kube.client import Client
from kube.controller import Controller, Result
from kube.errors import ApiError
from kube.objects import ConfigMap, Metadata, Secret
from kube.reflector import Reflector
from kube.resources import CONFIG_MAPS, SECRETS
from kube.store import Change, Key
from reflection import copies, ownership
from reflection.caches import RemoteCaches
from reflection.copier import Copier, ForeignObjectError, Kind
from reflection.forge import names
from reflection.forge.model import References as PodReferences
from reflection.namespaces import says_lost

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RefKey:
    """One referenced object of the consumer."""

    kind: Kind
    namespace: str
    name: str


def reference_keys(namespace: str, found: PodReferences) -> frozenset[RefKey]:
    """The keys of what a pod of `namespace` names."""
    config_maps = (RefKey(Kind.CONFIG_MAP, namespace, ref.name) for ref in found.config_maps)
    secrets = (RefKey(Kind.SECRET, namespace, ref.name) for ref in found.secrets)
    pull = (RefKey(Kind.SECRET, namespace, name) for name in found.pull_secrets)
    return frozenset((*config_maps, *secrets, *pull))


@dataclass(slots=True)
class Referenced:
    """State of one referenced object: who needs it, its watch, and how its copy fares."""

    remote_namespace: str
    remote_name: str
    users: set[Key] = field(default_factory=set)
    watcher: Reflector[ConfigMap] | Reflector[Secret] | None = None
    task: asyncio.Task[None] | None = None
    in_step: bool = False
    problem: str = ""


class References:
    """Owns the watches of referenced objects and the copies at the provider."""

    def __init__(
        self,
        consumer: Client,
        provider: Client,
        caches: RemoteCaches,
        *,
        consumer_id: str,
        node_name: str,
        remote_name: Callable[[RefKey], str],
        needed: Callable[[RefKey], bool],
        wake: Callable[[Key], None],
        namespace_lost: Callable[[str], None],
        linger: float,
        may_leave: Callable[[str, Metadata], bool] = lambda _resource, _metadata: True,
        registry: prometheus_client.CollectorRegistry | None = None,
    ) -> None:
        self._consumer = consumer
        self._copier = Copier(provider, caches, consumer_id=consumer_id, node_name=node_name)
        self._caches = caches
        self._node_name = node_name
        self._remote_name = remote_name
        self._needed = needed
        self._wake = wake
        self._namespace_lost = namespace_lost
        self._linger = linger
        self._may_leave = may_leave
        self._registry = registry
        self._known: dict[RefKey, Referenced] = {}
        self._of_pod: dict[Key, frozenset[RefKey]] = {}
        self._starting: asyncio.Queue[RefKey] = asyncio.Queue()
        self.controller: Controller[RefKey] = Controller("references", self.reconcile, registry=registry)

    # -- what pods need

    def track(self, pod: Key, refs: Iterable[RefKey], *, remote_namespace: str) -> bool:
        """Say which objects `pod` names; True once each is copied, or known to be absent at the consumer."""
        wanted = frozenset(refs)
        for gone in self._of_pod.get(pod, frozenset()) - wanted:
            self._release(pod, gone)
        if wanted:
            self._of_pod[pod] = wanted
        else:
            self._of_pod.pop(pod, None)
        for ref in wanted:
            self._entry(ref, remote_namespace).users.add(pod)
        return all(self._known[ref].in_step for ref in wanted)

    def untrack(self, pod: Key) -> None:
        """`pod` is gone: what only it named is removed after a while."""
        for ref in self._of_pod.pop(pod, frozenset()):
            self._release(pod, ref)

    def problems(self, pod: Key) -> list[str]:
        """Why objects that `pod` names can't be copied."""
        entries = (self._known[ref] for ref in self._of_pod.get(pod, frozenset()))
        return sorted(e.problem for e in entries if e.problem)

    def _entry(self, ref: RefKey, remote_namespace: str) -> Referenced:
        entry = self._known.get(ref)
        if entry is None:
            entry = Referenced(remote_namespace=remote_namespace, remote_name=self._remote_name(ref))
            self._known[ref] = entry
        elif not entry.users:
            # Nobody kept it in step since its last pod went: the object may have come, or changed, meanwhile.
            entry.in_step = False
            self.controller.queue.add(ref)
        if entry.watcher is None:
            entry.watcher = self._watch(ref)
            self._starting.put_nowait(ref)
        return entry

    def _release(self, pod: Key, ref: RefKey) -> None:
        entry = self._known.get(ref)
        if entry is not None:
            entry.users.discard(pod)
            if not entry.users:
                self.controller.queue.add(ref, delay=self._linger)

    def namespace_removed(self, remote_namespace: str) -> None:
        """The copies went with their namespace: what pods need of them is made again."""
        for ref, entry in self._known.items():
            if entry.remote_namespace == remote_namespace:
                entry.in_step = False
                self.controller.queue.add(ref)

    def reconsider(self, namespace: str) -> None:
        """What may leave a consumer namespace has changed."""
        for ref in self._known:
            if ref.namespace == namespace:
                self.controller.queue.add(ref)

    # -- watches at the consumer

    def _watch(self, ref: RefKey) -> Reflector[ConfigMap] | Reflector[Secret]:
        def changed(_change: Change[Any]) -> None:
            self.controller.queue.add(ref)

        common: dict[str, Any] = {
            "namespace": ref.namespace,
            "field_selector": f"metadata.name={ref.name}",
            "on_change": changed,
            "registry": self._registry,
        }
        if ref.kind is Kind.CONFIG_MAP:
            return Reflector(self._consumer, CONFIG_MAPS, decode=ConfigMap, **common)
        return Reflector(self._consumer, SECRETS, decode=Secret, **common)

    async def run(self) -> None:
        """Run the controller and the watches; ends only by cancellation or a programming error."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.controller.run(), name="controller/references")
            while True:
                ref = await self._starting.get()
                entry = self._known.get(ref)
                if entry is not None and entry.watcher is not None and entry.task is None:
                    name = f"reference/{ref.kind.value}/{ref.namespace}/{ref.name}"
                    entry.task = group.create_task(self._run_watch(ref, entry.watcher), name=name)

    async def _run_watch(self, ref: RefKey, watcher: Reflector[Any]) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(watcher.run(), name="watch")
            await watcher.synced.wait()
            self.controller.queue.add(ref)  # an absent object causes no change event, and pods wait for this news

    def _stop(self, ref: RefKey) -> None:
        entry = self._known.pop(ref, None)
        if entry is not None and entry.task is not None:
            entry.task.cancel()

    # -- copies at the provider

    def remote_changed(self, kind: Kind, namespace: str, change: Change[Any]) -> None:
        """A copy changed at the provider: compare it again."""
        shown = change.new or change.old
        key = ownership.origin_key(shown.metadata) if shown is not None else None
        if key is not None:
            self.controller.queue.add(RefKey(kind, *key), delay=self._linger if change.initial else 0.0)

    async def reconcile(self, ref: RefKey) -> Result | None:
        """Bring the copy of one object in step, or remove it when no pod needs it any more."""
        entry = self._known.get(ref)
        if entry is None or not entry.users:
            await self._remove_unneeded(ref, entry)
            return None
        caches = self._caches.ensure(entry.remote_namespace)
        if entry.watcher is None or not entry.watcher.synced.is_set() or not caches.synced:
            return Result(requeue_after=1.0)
        source = entry.watcher.store.get((ref.namespace, ref.name))
        problem = await self._bring_in_step(ref, entry, source)
        before = (entry.in_step, entry.problem)  # as of now: a pod may have come meanwhile, and waits
        entry.in_step, entry.problem = not problem, problem
        if before != (entry.in_step, entry.problem):
            for pod in entry.users:
                self._wake(pod)
        return Result(requeue_after=60.0) if entry.problem else None

    async def _bring_in_step(self, ref: RefKey, entry: Referenced, source: ConfigMap | Secret | None) -> str:
        """Returns the problem in words, empty when all is well."""
        namespace, name = entry.remote_namespace, entry.remote_name
        copy = self._copier.cached(ref.kind, namespace, name)
        try:
            if source is None:
                await self._see_to_absent(ref, entry, copy)
            elif copy is None and not self._admits(ref, source):
                what = f"{ref.kind.value} {ref.name}"
                return f"{what} must not leave this cluster: spec.reflection, or the object's own label, forbids it"
            elif copy is None or not copies.in_step(source, copy, self._node_name):
                await self._copier.write(ref.kind, source, copy, namespace=namespace, name=name)
        except (copies.NotReflectableError, ForeignObjectError) as error:
            return str(error)
        except ApiError as error:
            if says_lost(error):
                entry.in_step = False
                self._namespace_lost(namespace)
                for pod in entry.users:
                    self._wake(pod)
            raise
        return ""

    def _admits(self, ref: RefKey, source: ConfigMap | Secret) -> bool:
        """Whether it may go; what is there already stays, for pods run with it."""
        if ref.kind is Kind.CONFIG_MAP and ref.name == names.ROOT_CA:
            return True
        return self._may_leave(ref.kind.resource.plural, source.metadata)

    async def _see_to_absent(self, ref: RefKey, entry: Referenced, copy: ConfigMap | Secret | None) -> None:
        """The consumer has no such object: remove the copy, but only once a GET has said so too."""
        if copy is None:
            await self._copier.check_absent(ref.kind, entry.remote_namespace, entry.remote_name)
            return
        try:
            await self._consumer.get(ref.kind.resource, name=ref.name, namespace=ref.namespace)
        except ApiError as error:
            if not error.not_found:
                raise
            await self._copier.delete(ref.kind, copy)
            return
        self.controller.queue.add(ref, delay=5.0)  # it is there after all: the watch will tell

    async def _remove_unneeded(self, ref: RefKey, entry: Referenced | None) -> None:
        if self._needed(ref):
            return  # a pod names it that has not been through its reconcile yet; that will track it
        remote_name = self._remote_name(ref)
        for caches in self._caches.values():
            copy = self._copier.cached(ref.kind, caches.name, remote_name)
            if copy is not None and ownership.origin_key(copy.metadata) == (ref.namespace, ref.name):
                await self._copier.give_up(ref.kind, copy)
        if entry is not None and not entry.users:
            self._stop(ref)
