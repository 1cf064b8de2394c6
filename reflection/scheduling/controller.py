"""The controller of NamespaceOffloadings: what is wanted of providers, which namespaces the webhook sees, what to say.

It never ends running pods, whatever changes in the object; only its deletion moves pods off virtual nodes, by
evictions that honour disruption budgets, and a provider that stays away, where the object says so (`lost`). What
providers hold is theirs to remove: see `declared` for the protocol.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import prometheus_client
import structlog

from api.meta import Condition, condition, with_condition
from api.offloading.definitions import NAMESPACE_OFFLOADINGS, VIRTUAL_NODES
from api.offloading.namespaces import NAME, NamespaceOffloading
from api.offloading.virtual_node import VirtualNode
from kube.client import Client
from kube.controller import Controller, Result
from kube.election import NotLeader
from kube.errors import ApiError
from kube.events import EventRecorder
from kube.objects import ObjectReference, WithMetadata, to_dict
from kube.queue import Priority
from kube.reflector import Reflector
from kube.resources import NAMESPACES, NODES, PODS
from kube.store import Change
from reflection.scheduling import names, plan
from reflection.scheduling.declared import RemoteName
from reflection.scheduling.evictions import evict
from reflection.scheduling.leadership import NOT_LEADING_RETRY, Leadership
from reflection.scheduling.lost import LostProviders
from reflection.scheduling.nodes import Outages, SeenNode
from reflection.scheduling.plan import Plan, Surroundings
from reflection.scheduling.pods import RUNNING, SeenPod
from reflection.scheduling.provider import field_manager
from reflection.scheduling.rights import Rights
from reflection.scheduling.status import write

log = structlog.get_logger(__name__)

FINALIZER: Final = "offloading.isthmus.dev/namespace"
FIELD_MANAGER: Final = "isthmus-namespace-offloading"
_CLUSTER: Final = ""
"""Key of what concerns no namespace."""
_REMOVAL_RETRY: Final = 2.0
_PODS_DELAY: Final = 0.5
"""Seconds that changes of pods are gathered."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class NamespaceOffloadings:
    """Reconciles by namespace. Every replica may run it: the one that leads writes."""

    def __init__(
        self,
        client: Client,
        *,
        consumer_id: str,
        own_namespace: str,
        leadership: Leadership,
        recorder: EventRecorder,
        cluster_role: str = "",
        namespace_roles: Sequence[str] = (),
        webhook: bool = True,
        registry: prometheus_client.CollectorRegistry | None = None,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        """Virtual kubelets get `cluster_role` everywhere, and `namespace_roles` where namespaces are offloaded.

        Without a `webhook` no pods are prepared, and none are missed.
        """
        self._webhook = webhook
        self._client = client
        self._rights = Rights(
            client, check=leadership.check, cluster_role=cluster_role, namespace_roles=namespace_roles
        )
        self._names = RemoteName(consumer_id)
        self._own_namespace = own_namespace
        self._leadership = leadership
        self._recorder = recorder
        self._clock = clock
        self._outages = Outages()
        self._lost = LostProviders(client, self._outages, leadership=leadership, recorder=recorder)
        self.objects: Reflector[NamespaceOffloading] = Reflector(
            client,
            NAMESPACE_OFFLOADINGS,
            decode=NamespaceOffloading,
            on_change=lambda change: self._look(change.key[0]),
            registry=registry,
        )
        self._virtual_nodes: Reflector[VirtualNode] = Reflector(
            client, VIRTUAL_NODES, decode=VirtualNode, on_change=self._virtual_node_changed, registry=registry
        )
        self._nodes: Reflector[SeenNode] = Reflector(
            client,
            NODES,
            decode=SeenNode,
            label_selector=names.NODE_MARK,
            on_change=self._node_changed,
            registry=registry,
        )
        self._namespaces: Reflector[WithMetadata] = Reflector(
            client, NAMESPACES, decode=WithMetadata, on_change=self._namespace_changed, registry=registry
        )
        self._pods: Reflector[SeenPod] = Reflector(
            client,
            PODS,
            decode=SeenPod,
            field_selector=RUNNING,
            indexes={"namespace": lambda pod: (pod.metadata.namespace,)},
            on_change=self._pod_changed,
            registry=registry,
        )
        self.controller: Controller[str] = Controller(
            "namespace-offloadings", self._reconcile, concurrency=8, registry=registry
        )

    # -- tasks

    def cache_tasks(self) -> Iterable[tuple[str, Callable[[], Awaitable[None]]]]:
        """What must run before decisions can be made."""
        return (
            ("namespace offloadings", self.objects.run),
            ("virtual nodes", self._virtual_nodes.run),
            ("nodes", self._nodes.run),
            ("namespaces", self._namespaces.run),
            ("pods", self._pods.run),
        )

    async def synced(self) -> None:
        """Wait until all is known that decisions rest on."""
        for reflector in (self.objects, self._virtual_nodes, self._nodes, self._namespaces, self._pods):
            await reflector.synced.wait()

    def worker_tasks(self) -> Iterable[tuple[str, Callable[[], Awaitable[None]]]]:
        """What decides and writes."""
        return (("namespace offloadings", self._work),)

    async def _work(self) -> None:
        await self.synced()
        self._look(_CLUSTER)
        await self.controller.run()

    # -- what wakes what

    def _look(self, namespace: str) -> None:
        self.controller.queue.add(namespace)

    def _look_at_all(self) -> None:
        for offloading in self.objects.store.values():
            self.controller.queue.add(offloading.metadata.namespace, priority=Priority.INITIAL)

    def _virtual_node_changed(self, change: Change[VirtualNode]) -> None:
        if change.old is None or change.new is None or change.old.spec != change.new.spec:
            self._look(_CLUSTER)
            self._look_at_all()

    def _node_changed(self, change: Change[SeenNode]) -> None:
        self._outages.observe(change.key[1], change.new)
        old, new = change.old, change.new
        if old is None or new is None or old.metadata.labels != new.metadata.labels or old.ready != new.ready:
            self._look_at_all()

    def _namespace_changed(self, change: Change[WithMetadata]) -> None:
        labelled = change.new is not None and names.SCHEDULING_LABEL in change.new.metadata.labels
        if labelled or (change.key[1], NAME) in self.objects.store:
            self._look(change.key[1])

    def _pod_changed(self, change: Change[SeenPod]) -> None:
        if self.objects.store.get((change.key[0], NAME)) is not None:
            self.controller.queue.add(change.key[0], delay=_PODS_DELAY)

    # -- reconciling

    async def _reconcile(self, namespace: str) -> Result | None:
        try:
            self._leadership.check()
            if namespace == _CLUSTER:
                await self._rights.everywhere(one.node for one in self._virtual_nodes.store.values())
                return None
            offloading = self.objects.store.get((namespace, NAME))
            if offloading is None:
                await self._label(namespace, enabled=False)
                return None
            if offloading.metadata.deletion_timestamp:
                return await self._withdraw(offloading)
            return await self._offload(offloading)
        except NotLeader:
            return Result(requeue_after=NOT_LEADING_RETRY)

    async def _offload(self, offloading: NamespaceOffloading) -> Result | None:
        around = self._surroundings()
        made = plan.plan(offloading, around)
        if not self._webhook:
            made = replace(made, scheduling=False)
        if FINALIZER not in offloading.metadata.finalizers:
            await self._finalize(offloading, (*offloading.metadata.finalizers, FINALIZER))
            return None  # its change brings us back
        namespace = offloading.metadata.namespace
        await self._rights.within(namespace, self._nodes_of(made.providers))
        await self._label(namespace, enabled=made.scheduling)
        enabled = plan.scheduling(made, offloading.spec.pod_strategy)
        since = _since(offloading, enabled)
        missed = self._missed(namespace, since=since) if made.scheduling and since else []
        settled = await self._lost.settle(offloading, self._pods_in(namespace), around.nodes)
        ready = plan.ready(made, offloading.status.providers, lost=self._lost_providers(around))
        reflected = plan.reflected(made, offloading.status.providers)
        said = (ready, enabled, plan.prepared(missed), settled.condition, reflected)
        await self._say(offloading, said, providers=made.providers)
        await self._end_orphans(offloading, made, around)
        return Result(requeue_after=settled.again) if settled.again is not None else None

    async def _withdraw(self, offloading: NamespaceOffloading) -> Result | None:
        """Bring pods off the virtual nodes, have the providers remove what they have, and let the object go."""
        if FINALIZER not in offloading.metadata.finalizers:
            return None
        namespace = offloading.metadata.namespace
        await self._label(namespace, enabled=False)
        around = self._surroundings()
        pods = [pod for pod in self._pods_in(namespace) if pod.spec.node_name in around.nodes]
        self._leadership.check()
        blocked = await evict(self._client, [pod.metadata for pod in pods])
        entries = offloading.status.providers
        if not pods and not entries:
            await self._rights.withdraw(namespace)
            others = tuple(one for one in offloading.metadata.finalizers if one != FINALIZER)
            await self._finalize(offloading, others)
            log.info("namespace no longer offloaded", namespace=namespace)
            return None
        left = [f"{len(pods)} pods are still on virtual nodes"] if pods else []
        await self._say(offloading, (plan.removing([*left, *blocked], entries),), providers={})
        await self._end_orphans(offloading, Plan(), around)
        return Result(requeue_after=_REMOVAL_RETRY)

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            own_namespace=self._own_namespace,
            names=self._names,
            nodes={node.metadata.name: node.metadata.labels for node in self._nodes.store.values()},
            virtual_nodes=list(self._virtual_nodes.store.values()),
            others=[one for one in self.objects.store.values() if one.metadata.name == NAME],
        )

    def _lost_providers(self, around: Surroundings) -> set[str]:
        """Providers of which every virtual node says that it cannot be reached."""
        reached = {around.provider_of(node) for node in around.nodes if self._outages.lasting(node) is None}
        return {around.provider_of(node) for node in around.nodes} - reached

    def _nodes_of(self, providers: Mapping[str, str]) -> list[str]:
        """The virtual nodes of some providers: any of these may do what is namespace-wide."""
        return [one.node for one in self._virtual_nodes.store.values() if one.spec.provider in providers]

    def _pods_in(self, namespace: str) -> Sequence[SeenPod]:
        return self._pods.store.by_index("namespace", namespace)

    def _missed(self, namespace: str, *, since: str) -> list[str]:
        """Pods that were made without the webhook and did not get to a virtual node in another way."""
        virtual = {node.metadata.name for node in self._nodes.store.values()}
        pods = (pod for pod in self._pods_in(namespace) if pod.spec.node_name not in virtual)
        return [pod.metadata.name for pod in pods if pod.was_missed(since=since)]

    # -- writing

    async def _finalize(self, offloading: NamespaceOffloading, finalizers: tuple[str, ...]) -> None:
        """Set the finalizers, unless somebody changed the object meanwhile: what we decided on may be old."""
        metadata = offloading.metadata
        fixed = {"uid": metadata.uid, "resourceVersion": metadata.resource_version}
        self._leadership.check()
        try:
            await self._client.patch(
                NAMESPACE_OFFLOADINGS,
                {"metadata": {"finalizers": list(finalizers), **fixed}},
                name=metadata.name,
                namespace=metadata.namespace,
            )
        except ApiError as error:
            if not error.not_found:
                raise

    async def _label(self, namespace: str, *, enabled: bool) -> None:
        """Have the API server show the namespace's new pods to the webhook, or not."""
        known = self._namespaces.store.get(("", namespace))
        wanted = names.SCHEDULING_ENABLED if enabled else None
        if known is None or known.metadata.labels.get(names.SCHEDULING_LABEL) == wanted:
            return
        self._leadership.check()
        labels = {names.SCHEDULING_LABEL: wanted}
        try:
            await self._client.patch(
                NAMESPACES, {"metadata": {"labels": labels, "uid": known.metadata.uid}}, name=namespace
            )
        except ApiError as error:
            if not error.not_found:
                raise

    async def _say(
        self, offloading: NamespaceOffloading, said: Sequence[Condition], *, providers: Mapping[str, str]
    ) -> None:
        """Write our part of the status, if it differs; and an event where pods were missed anew."""
        now = self._clock().strftime("%Y-%m-%dT%H:%M:%SZ")
        status, generation = offloading.status, offloading.metadata.generation
        # Only what is ours: what others say in the status stays theirs.
        before = tuple(one for one in status.conditions if one.type in plan.CONDITIONS)
        conditions = before
        for one in said:
            conditions = with_condition(
                conditions, msgspec.structs.replace(one, observed_generation=generation), now=now
            )
        asked = {entry.provider: entry.namespace for entry in status.providers if entry.namespace}
        if (conditions, asked, generation) == (before, dict(providers), status.observed_generation):
            return
        self._leadership.check()
        body: dict[str, Any] = {
            "observedGeneration": generation,
            "conditions": [to_dict(one) for one in conditions],
            "providers": [{"provider": name, "namespace": remote} for name, remote in providers.items()],
        }
        await write(self._client, offloading, body, manager=FIELD_MANAGER)
        self._tell_missed(offloading, said)

    def _tell_missed(self, offloading: NamespaceOffloading, said: Sequence[Condition]) -> None:
        new, old = condition(said, plan.PREPARED), condition(offloading.status.conditions, plan.PREPARED)
        if new is None or new.status == "True" or (old is not None and old.message == new.message):
            return
        metadata = offloading.metadata
        ref = ObjectReference(
            api_version=NAMESPACE_OFFLOADINGS.api_version,
            kind=NAMESPACE_OFFLOADINGS.kind,
            namespace=metadata.namespace,
            name=metadata.name,
            uid=metadata.uid,
        )
        self._recorder.event(ref, type="Warning", reason=new.reason, message=new.message)

    async def _end_orphans(self, offloading: NamespaceOffloading, made: Plan, around: Surroundings) -> None:
        """End the entries of providers that have no virtual node any more: nobody is left to do it."""
        known = around.providers()
        for entry in offloading.status.providers:
            if entry.provider not in known and entry.provider not in made.providers:
                self._leadership.check()
                await write(self._client, offloading, {"providers": []}, manager=field_manager(entry.provider))
                log.info("entry of a provider without virtual nodes ended", provider=entry.provider)


def _since(offloading: NamespaceOffloading, enabled: Condition) -> str:
    """Since when pods are prepared; empty if that is not in the status yet."""
    known = condition(offloading.status.conditions, plan.SCHEDULING)
    return known.last_transition_time if known is not None and known.status == enabled.status == "True" else ""
