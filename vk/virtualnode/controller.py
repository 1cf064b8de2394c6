"""Reconciles VirtualNodes: identity, ConfigMap and Deployment, taints, status; and their removal.

Removal, in this order, each step again until it holds: cordon, evict, wait until the process has brought every remote
pod to its end, let the provider be cleared of what is left (`Retire`), stop the process, remove the Node, drop the
finalizer. The process runs until its pods are gone, for only it ends remote pods.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
import prometheus_client
import structlog

from api import meta
from api.networking.definitions import NETWORK_PEERINGS
from api.networking.peering import NetworkPeering
from api.offloading.definitions import VIRTUAL_NODES
from api.offloading.virtual_node import VirtualNode
from kube.client import Client
from kube.controller import Controller, Result
from kube.errors import ApiError, KubeError
from kube.objects import Object, Secret
from kube.reflector import Reflector
from kube.resources import CONFIG_MAPS, DEPLOYMENTS, NODES, PODS, SECRETS, Resource
from kube.store import Change, Key
from vk.node.objects import Node
from vk.node.settings import MARKER_LABEL, SettingsError, check_labels
from vk.virtualnode import drain, render, status, taints
from vk.virtualnode.identity import Identities, IdentityPending, IdentityRefused
from vk.virtualnode.kept import Kept
from vk.virtualnode.settings import (
    COMPONENT,
    COMPONENT_LABEL,
    FIELD_MANAGER,
    FINALIZER,
    INSTANCE_LABEL,
    VirtualNodeSettings,
    object_name,
)
from vk.virtualnode.status import Problem, Seen

log = structlog.get_logger(__name__)

Json = dict[str, Any]
Retire = Callable[[VirtualNode], Awaitable[str]]
"""Clears the provider of what a VirtualNode leaves there; returns what is still in the way, empty for nothing."""

Orphans = Callable[[VirtualNode], Awaitable[str | None]]
"""What is left at a VirtualNode's provider of others that are no more, empty for nothing, None if it is not known."""

DRAIN_SECONDS = 2.0
COUNT_SECONDS = 30.0
PENDING_SECONDS = 1.0
_OURS = f"{COMPONENT_LABEL}={COMPONENT}"


class VirtualNodes:
    """All VirtualNodes of a cluster. Run `cache_tasks`, then `run` while leading."""

    def __init__(
        self,
        client: Client,
        settings: VirtualNodeSettings,
        *,
        retire: Retire,
        orphans: Orphans | None = None,
        check: Callable[[], None] = lambda: None,
        authority: Callable[[], bytes | None] = lambda: None,
        registry: prometheus_client.CollectorRegistry | None = None,
    ) -> None:
        """`authority` is the API server's CA as of now, if it differs from the settings'."""
        self._client = client
        self._settings = settings
        self._retire = retire
        self._orphans = orphans
        self._check = check
        self._identities = Identities(client, settings, authority=authority)
        self._progress: dict[str, drain.Progress] = {}
        self._counted: dict[str, tuple[float, int]] = {}
        self._overdue: dict[str, str] = {}
        """By VirtualNode, why its client certificate is not renewed although it should be."""
        self.controller: Controller[Key] = Controller("virtualnodes", self.reconcile, registry=registry)
        self.virtual_nodes: Reflector[VirtualNode] = Reflector(
            client, VIRTUAL_NODES, decode=VirtualNode, on_change=self._changed, registry=registry
        )
        self._kept = Kept(client, namespace=settings.namespace, virtual_nodes=self._all, check=check)
        self.nodes: Reflector[Node] = Reflector(
            client, NODES, decode=Node, label_selector=MARKER_LABEL, on_change=self._node_changed, registry=registry
        )
        self.peerings: Reflector[NetworkPeering] | None = None
        """Of the network module, where it is on."""
        if settings.networked:
            self.peerings = Reflector(
                client, NETWORK_PEERINGS, decode=NetworkPeering, on_change=self._peering_changed, registry=registry
            )
        self.deployments: Reflector[Object] = self._own(DEPLOYMENTS, registry)
        self.pods: Reflector[Object] = self._own(PODS, registry)

    def _own(self, resource: Resource, registry: prometheus_client.CollectorRegistry | None) -> Reflector[Object]:
        return Reflector(
            self._client,
            resource,
            decode=Object,
            namespace=self._settings.namespace,
            label_selector=_OURS,
            on_change=self._own_changed,
            registry=registry,
        )

    def _all(self) -> Iterable[VirtualNode]:
        return self.virtual_nodes.store.values()

    def cache_tasks(self) -> list[tuple[str, Reflector[Any]]]:
        """What must be in step before anything is decided."""
        tasks: list[tuple[str, Reflector[Any]]] = [
            ("virtual nodes", self.virtual_nodes),
            ("nodes", self.nodes),
            ("deployments", self.deployments),
            ("virtual kubelets' pods", self.pods),
        ]
        return [*tasks, ("networks to providers", self.peerings)] if self.peerings is not None else tasks

    def names(self) -> set[str]:
        """The names of all virtual nodes there are, whoever runs them, or are to be."""
        return {node.metadata.name for node in self.nodes.store.values()} | {one.node for one in self._all()}

    def addresses(self, node: str) -> set[str] | None:
        """Addresses of the pods that run a node; None if it is no VirtualNode's."""
        found = [virtual for virtual in self.virtual_nodes.store.values() if virtual.node == node]
        if not found:
            return None
        addresses: set[str] = set()
        for pod in self.pods.store.values():
            if pod.metadata.labels.get(INSTANCE_LABEL) == found[0].metadata.name:
                shown = msgspec.json.decode(pod.status)
                addresses |= {entry["ip"] for entry in shown.get("podIPs") or ()}
        return addresses

    async def run(self) -> None:
        """Do what is to be done; first for what ended before we began, which nothing wakes us for."""
        self.controller.queue.add(("", ""))
        await self.controller.run()

    # -- what wakes what

    def _changed(self, change: Change[VirtualNode]) -> None:
        self.controller.queue.add(change.key)
        shown = change.new or change.old
        if shown is not None and (change.old is None or change.new is None or change.old.spec != change.new.spec):
            for sibling in self._siblings(shown):
                self.controller.queue.add(sibling.metadata.key)

    def _siblings(self, virtual: VirtualNode) -> list[VirtualNode]:
        """All VirtualNodes of its provider that are to stay: what they say of whole namespaces holds for each."""
        there = self.virtual_nodes.store.values()
        same = [other for other in there if other.spec.provider == virtual.spec.provider]
        return [other for other in same if other.metadata.deletion_timestamp is None]

    def _node_changed(self, change: Change[Node]) -> None:
        for virtual in self.virtual_nodes.store.values():
            if virtual.node == change.key[1]:
                self.controller.queue.add(virtual.metadata.key)

    def _peering_changed(self, change: Change[NetworkPeering]) -> None:
        if _answers(change.old) == _answers(change.new):
            return  # measures, mostly
        for virtual in self.virtual_nodes.store.values():
            if virtual.spec.provider == change.key[1]:
                self.controller.queue.add(virtual.metadata.key)

    def _probed(self, virtual: VirtualNode) -> bool:
        """Whether there is a network of ours to its provider."""
        return self.peerings is not None and _answers(self.peerings.store.get(("", virtual.spec.provider)))

    def _own_changed(self, change: Change[Object]) -> None:
        shown = change.new or change.old
        if shown is not None and INSTANCE_LABEL in shown.metadata.labels:
            self.controller.queue.add(("", shown.metadata.labels[INSTANCE_LABEL]))

    # -- the work

    async def reconcile(self, key: Key) -> Result | None:
        """Bring one VirtualNode a step nearer to what it says."""
        virtual = self.virtual_nodes.store.get(key)
        if virtual is None:
            self._progress.pop(key[1], None)
            self._overdue.pop(key[1], None)
            self._check()
            await self._kept.forget(key[1])
            return None
        self._check()
        if virtual.metadata.deletion_timestamp is not None:
            return await self._remove(virtual)
        await self._kept.hold()
        if FINALIZER not in virtual.metadata.finalizers:
            await self._set_finalizers(virtual, (*virtual.metadata.finalizers, FINALIZER))
        problem, again = await self._run_process(virtual)
        await self._set_taints(virtual)
        await self._report(virtual, problem=problem, orphans=await self._left_of_others(virtual))
        return Result(requeue_after=min(again, COUNT_SECONDS))

    async def _run_process(self, virtual: VirtualNode) -> tuple[Problem | None, float]:
        """What stands in the way, and in how many seconds to look again."""
        problem = self._invalid(virtual) or await self._kubeconfig(virtual)
        if problem is not None:
            return problem, COUNT_SECONDS
        try:
            identity = await self._identities.ensure(virtual)
        except IdentityPending as pending:
            return Problem("CertificatePending", str(pending)), PENDING_SECONDS
        except IdentityRefused as refused:
            return Problem("CertificateRefused", str(refused)), COUNT_SECONDS
        made = render.objects(virtual, self._settings, siblings=self._siblings(virtual), probed=self._probed(virtual))
        for body in made:
            await self._apply(body)
        self._overdue[virtual.metadata.name] = identity.overdue
        left = (identity.renew_at - datetime.now(UTC)).total_seconds()
        return None, COUNT_SECONDS if identity.overdue else max(PENDING_SECONDS, left)

    def _invalid(self, virtual: VirtualNode) -> Problem | None:
        try:
            check_labels(virtual.spec.labels)
        except SettingsError as error:
            return Problem("InvalidSpec", f"spec.labels: {error}")
        rival = min(
            (v.metadata.creation_timestamp, v.metadata.name)
            for v in self.virtual_nodes.store.values()
            if v.node == virtual.node
        )[1]
        if rival != virtual.metadata.name:
            return Problem("NodeTaken", f"spec.nodeName: VirtualNode {rival} has the Node {virtual.node} already")
        return None

    async def _kubeconfig(self, virtual: VirtualNode) -> Problem | None:
        wanted = virtual.spec.kubeconfig_secret
        where = f"{self._settings.namespace}/{wanted.name}"
        try:
            secret = await self._client.get(
                SECRETS, name=wanted.name, namespace=self._settings.namespace, decode=Secret
            )
        except ApiError as error:
            if not error.not_found:
                raise
            return Problem("KubeconfigMissing", f"spec.kubeconfigSecret: make Secret {where} with key {wanted.key}")
        await self._kept.hold_secret(virtual, secret)
        if wanted.key not in secret.data:
            return Problem("KubeconfigMissing", f"spec.kubeconfigSecret: Secret {where} has no key {wanted.key}")
        return None

    async def _apply(self, body: Json) -> None:
        """Apply what differs from what was applied; an equal apply changes nothing at the server either."""
        resource = {"ConfigMap": CONFIG_MAPS, "Deployment": DEPLOYMENTS}[body["kind"]]
        await self._client.apply(
            resource,
            body,
            name=body["metadata"]["name"],
            namespace=self._settings.namespace,
            field_manager=FIELD_MANAGER,
        )

    async def _set_taints(self, virtual: VirtualNode) -> None:
        """A node identity cannot change its own taints (NodeRestriction)."""
        node = self.nodes.store.get(("", virtual.node))
        if node is None or taints.patched(virtual, node) is None:
            return
        fresh = await self._client.get(NODES, name=virtual.node, decode=Node)
        wanted = taints.patched(virtual, fresh)
        if wanted is None:
            return
        metadata = {"resourceVersion": fresh.metadata.resource_version}
        await self._client.patch(NODES, {"metadata": metadata, "spec": {"taints": wanted}}, name=virtual.node)

    async def _left_of_others(self, virtual: VirtualNode) -> str | None:
        node = self.nodes.store.get(("", virtual.node))
        shown = node.status.condition("Ready") if node is not None else None
        if self._orphans is None or shown is None or shown.status != "True":
            return None  # to ask a provider that is away would hold up what there is to tell
        return await self._orphans(virtual)

    async def _report(
        self, virtual: VirtualNode, *, problem: Problem | None = None, progress: Any = None, orphans: str | None = None
    ) -> None:
        seen = Seen(
            node=self.nodes.store.get(("", virtual.node)),
            available=self._available(virtual.metadata.name),
            problem=problem,
            pods=progress.remaining if progress is not None else await self._count(virtual.node),
            drain=progress,
            overdue=self._overdue.get(virtual.metadata.name),
            orphans=orphans,
        )
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = status.patch(virtual.status, status.status(virtual, seen, now=now))
        if body is not None:
            await self._client.patch(VIRTUAL_NODES, body, name=virtual.metadata.name, subresource="status")

    def _available(self, name: str) -> bool:
        deployment = self.deployments.store.get((self._settings.namespace, object_name(name)))
        if deployment is None:
            return False
        shown: Json = msgspec.json.decode(deployment.status)
        return (
            bool(shown.get("availableReplicas")) and shown.get("observedGeneration") == deployment.metadata.generation
        )

    async def _count(self, node: str) -> int:
        """Pods on a node, counted anew now and then: a watch of all pods would cost more than the number is worth."""
        at, known = self._counted.get(node, (float("-inf"), 0))
        if time.monotonic() - at >= COUNT_SECONDS:
            known = len(await drain.pods_on(self._client, node))
            self._counted[node] = (time.monotonic(), known)
        return known

    # -- removal

    async def _remove(self, virtual: VirtualNode) -> Result | None:
        if FINALIZER not in virtual.metadata.finalizers:
            return None
        name = virtual.metadata.name
        node = self.nodes.store.get(("", virtual.node))
        if node is not None and not await self._emptied(virtual, node):
            return Result(requeue_after=DRAIN_SECONDS)
        if (left := await self._cleared(virtual)) is not None:
            log.info("provider not cleared yet", virtual_node=name, left=left)
            await self._report(virtual, problem=Problem("ProviderNotCleared", left))
            return Result(requeue_after=DRAIN_SECONDS)
        for resource in (DEPLOYMENTS, CONFIG_MAPS, SECRETS):
            await self._delete(resource, object_name(name), self._settings.namespace)
        if any(pod.metadata.labels.get(INSTANCE_LABEL) == name for pod in self.pods.store.values()):
            return Result(requeue_after=PENDING_SECONDS)  # it would make its Node again
        await self._delete(NODES, virtual.node)
        await self._kept.release(virtual)
        await self._set_finalizers(virtual, tuple(f for f in virtual.metadata.finalizers if f != FINALIZER))
        log.info("virtual node removed", virtual_node=name, node=virtual.node)
        return None

    async def _emptied(self, virtual: VirtualNode, node: Node) -> bool:
        """One round of the drain; whether no pod is left."""
        if not node.spec.unschedulable:
            await drain.cordon(self._client, virtual.node)
        left = await drain.pods_on(self._client, virtual.node)
        if self._late(virtual):
            await drain.delete(self._client, left)
            blocked: list[str] = []
        else:
            blocked = await drain.evict(self._client, left)
        before = virtual.status.drain.total if virtual.status.drain is not None else 0
        shown = self._progress.setdefault(virtual.metadata.name, drain.Progress(before)).drain(left, blocked)
        await self._report(virtual, progress=shown)
        return not left

    def _late(self, virtual: VirtualNode) -> bool:
        timeout = virtual.spec.drain_timeout
        if timeout is None or virtual.metadata.deletion_timestamp is None:
            return False
        began = datetime.fromisoformat(virtual.metadata.deletion_timestamp.replace("Z", "+00:00"))
        return (datetime.now(UTC) - began).total_seconds() >= meta.seconds(timeout)

    async def _cleared(self, virtual: VirtualNode) -> str | None:
        """None once nothing of it is left at the provider, else what is in the way."""
        try:
            return await self._retire(virtual) or None
        except (KubeError, OSError) as error:
            return f"the provider cannot be asked: {error}"

    async def _delete(self, resource: Resource, name: str, namespace: str | None = None) -> None:
        try:
            await self._client.delete(resource, name=name, namespace=namespace)
        except ApiError as error:
            if not error.not_found:
                raise

    async def _set_finalizers(self, virtual: VirtualNode, wanted: tuple[str, ...]) -> None:
        """Precondition: nobody has changed the object since."""
        metadata = {"resourceVersion": virtual.metadata.resource_version, "finalizers": list(wanted)}
        try:
            await self._client.patch(VIRTUAL_NODES, {"metadata": metadata}, name=virtual.metadata.name)
        except ApiError as error:
            if not (error.conflict or error.not_found):
                raise
            self.controller.queue.add(virtual.metadata.key, delay=0.1)


def _answers(peering: NetworkPeering | None) -> bool:
    """Whether the other side may answer a probe: with a third party's network our gateways are not on the way."""
    return peering is not None and peering.spec.technology != "None"
