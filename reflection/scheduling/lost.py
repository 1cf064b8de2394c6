"""Pods whose provider is away: kept, or replaced after a while, as their NamespaceOffloading says.

Kept is the default: the pods may well run on. To replace a pod is to delete it with its grace, as Kubernetes does on a
node that is unreachable: it stays Terminating, its owner makes another at once, and when the provider is back its
virtual kubelet ends the remote pod and only then lets the old object go. So nothing is forgotten that may still run.

Only pods that nobody would miss are replaced: those of a ReplicaSet, ReplicationController or Job without a claim of
their own choosing. A StatefulSet's pod has a name and a claim has data that must not be in use twice, and from here
nobody can prove that the old pod is not running: it is kept, and says why. Whoever knows that the provider is off says
so as for any node, by the taint `node.kubernetes.io/out-of-service` (KEP-2268): Kubernetes then deletes and removes the
node's pods by force, and the successors start. At the provider a successor waits for its predecessor's end even then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
import structlog

from api.meta import Condition, seconds
from api.offloading.namespaces import NamespaceOffloading, ProviderLost
from kube.client import Client
from kube.election import NotLeader
from kube.errors import ApiError
from kube.events import EventRecorder
from kube.objects import Metadata, ObjectReference
from kube.resources import PODS
from reflection.scheduling import plan, tolerance
from reflection.scheduling.leadership import Leadership
from reflection.scheduling.nodes import Outages
from reflection.scheduling.pods import SeenPod

T = TypeVar("T")
log = structlog.get_logger(__name__)

EVENT: Final = "ProviderLost"
_REPLACED: Final = frozenset({"ReplicaSet", "ReplicationController", "Job"})
_PARALLEL: Final = 16
_SHOWN: Final = 10
_OUT_OF_SERVICE: Final = "if the provider is surely off, taint the node node.kubernetes.io/out-of-service"


class _Volume(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    persistent_volume_claim: Any = None


class _Spec(msgspec.Struct, frozen=True):
    volumes: tuple[_Volume, ...] = ()


class LostPod(msgspec.Struct, frozen=True):
    """A pod on a node that lost its provider, as far as its replacement depends on it."""

    metadata: Metadata
    spec: _Spec = _Spec()


class _Tolerating(msgspec.Struct, frozen=True):
    tolerations: tuple[dict[str, Any], ...] = ()


class _BoundPod(msgspec.Struct, frozen=True):
    metadata: Metadata
    spec: _Tolerating = _Tolerating()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of the pods of one namespace, and in how many seconds to look again (None: when something changes)."""

    condition: Condition
    again: float | None = None


def kept_because(pod: LostPod) -> str:
    """Why a pod is not replaced; empty if it is."""
    owner = next((one for one in pod.metadata.owner_references if one.controller), None)
    if owner is None:
        return "it has no controller that would make another"
    if owner.kind not in _REPLACED:
        return f"a {owner.kind}'s pod may be one of its name, which must not run twice; {_OUT_OF_SERVICE}"
    if any(one.persistent_volume_claim is not None for one in pod.spec.volumes):
        return f"its claim's data must not be in use twice; {_OUT_OF_SERVICE}"
    return ""


class LostProviders:
    """Looks after the pods of one namespace at a time. Writes only while leading."""

    def __init__(self, client: Client, outages: Outages, *, leadership: Leadership, recorder: EventRecorder) -> None:
        self._client = client
        self._outages = outages
        self._leadership = leadership
        self._recorder = recorder
        self._told: dict[str, dict[str, str]] = {}
        """Node -> UID -> why this pod is kept (empty: it was deleted), for this outage."""

    async def settle(self, offloading: NamespaceOffloading, pods: Sequence[SeenPod], nodes: Collection[str]) -> Verdict:
        """See to the namespace's pods: `pods` that have not ended, on any node; `nodes` are all virtual ones."""
        remote = [pod for pod in pods if pod.spec.node_name in nodes]
        evictable = [pod.metadata for pod in remote if pod.evictable and not pod.metadata.deletion_timestamp]
        await _each(evictable, self._loosen)
        self._forget()
        lost = {name: age for name in sorted(nodes) if (age := self._outages.lasting(name)) is not None}
        there = {name: [pod.metadata for pod in remote if pod.spec.node_name == name] for name in lost}
        there = {name: found for name, found in there.items() if found}
        if not there:
            return Verdict(_condition(True, "Reachable", "no pod is on a node that has lost its provider"))
        where = ", ".join(there)
        many = sum(len(found) for found in there.values())
        policy = offloading.spec.provider_lost or ProviderLost()
        if policy.policy == "Keep" or policy.after is None:
            text = f"{where} lost the provider: {many} pods there are kept, and run on if the provider does"
            return Verdict(_condition(False, "PodsKept", text))
        left = {name: seconds(policy.after) - lost[name] for name in there}
        again = min((wait for wait in left.values() if wait > 0), default=None)
        due = {name: found for name, found in there.items() if left[name] <= 0}
        if not due:
            text = f"{where} lost the provider: {many} pods there are replaced if it is away for {policy.after}"
            return Verdict(_condition(False, "ReplacementWaits", text), again=again)
        kept: list[str] = []
        for name, found in due.items():
            kept += await self._replace(offloading.metadata.namespace, name, found, after=policy.after)
        text = f"{', '.join(due)} lost the provider for {policy.after}: pods there are replaced, and stay Terminating"
        text += " until the provider is back" + _named(kept)
        return Verdict(_condition(False, "PodsReplaced", text), again=again)

    def _forget(self) -> None:
        """An outage that is over leaves nothing to remember."""
        for name in [name for name in self._told if self._outages.lasting(name) is None]:
            del self._told[name]

    # -- replacing

    async def _replace(self, namespace: str, node: str, pods: Sequence[Metadata], *, after: str) -> list[str]:
        """Delete what may be replaced; gives the names of what is kept."""
        told = self._told.setdefault(node, {})
        present = {pod.uid: pod.name for pod in pods}
        if any(pod.uid not in told and not pod.deletion_timestamp for pod in pods):
            selector = f"spec.nodeName={node}"
            listing = await self._client.list(PODS, namespace=namespace, field_selector=selector, decode=LostPod)
            new = [one for one in listing.items if one.metadata.uid in present and one.metadata.uid not in told]
            await _each(new, lambda pod: self._end(pod, node, told, after=after))
        return sorted(present[uid] for uid, why in told.items() if why and uid in present)

    async def _end(self, pod: LostPod, node: str, told: dict[str, str], *, after: str) -> None:
        metadata = pod.metadata
        if metadata.deletion_timestamp:
            return
        why = kept_because(pod)
        if not why:
            if self._outages.lasting(node) is None:
                return  # it came back meanwhile: the pod is well
            self._leadership.check()
            why = await self._delete(metadata)
        told[metadata.uid] = why
        came = f"is kept: {why}" if why else "is deleted, so that its owner makes another elsewhere"
        ref = ObjectReference(
            api_version="v1", kind="Pod", namespace=metadata.namespace, name=metadata.name, uid=metadata.uid
        )
        self._recorder.event(
            ref, type="Warning", reason=EVENT, message=f"node {node} lost its provider for {after}; the pod {came}"
        )

    async def _delete(self, metadata: Metadata) -> str:
        """Empty, or why it is refused: that concerns one pod, and is not asked again in this outage."""
        log.info("replacing a pod whose provider is away", pod=f"{metadata.namespace}/{metadata.name}")
        try:
            await self._client.delete(PODS, name=metadata.name, namespace=metadata.namespace, uid=metadata.uid)
        except ApiError as error:
            if error.retryable:
                raise
            if not (error.not_found or error.status == 409):
                return f"its deletion is refused: {error.message}"
        return ""

    # -- letting pods outlast an outage

    async def _loosen(self, pod: Metadata) -> None:
        try:
            found = await self._client.get(PODS, name=pod.name, namespace=pod.namespace, decode=_BoundPod)
            wanted = tolerance.loosened(found.spec.tolerations)
            if found.metadata.uid != pod.uid or wanted is None:
                return
            self._leadership.check()
            fixed = {"uid": pod.uid, "resourceVersion": found.metadata.resource_version}
            body = {"metadata": fixed, "spec": {"tolerations": wanted}}
            await self._client.patch(PODS, body, name=pod.name, namespace=pod.namespace)
        except ApiError as error:
            if error.retryable:
                raise
            if not (error.not_found or error.status == 409):  # a conflict is a change, which brings us back
                where = f"{pod.namespace}/{pod.name}"
                log.warning("pod may be evicted from its unready node", pod=where, error=str(error))


async def _each(items: Sequence[T], work: Callable[[T], Awaitable[None]]) -> None:
    """Some at a time. If any fails the first failure is raised, that of lost leadership before others."""
    slots = asyncio.Semaphore(_PARALLEL)

    async def one(item: T) -> None:
        async with slots:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for item in items:
                group.create_task(one(item))
    except ExceptionGroup as failures:
        lost = failures.subgroup(NotLeader)
        raise (lost or failures).exceptions[0] from None


def _named(kept: Sequence[str]) -> str:
    if not kept:
        return ""
    more = f" and {len(kept) - _SHOWN} more" if len(kept) > _SHOWN else ""
    return f"; kept are {', '.join(kept[:_SHOWN])}{more}: see their events"


def _condition(reachable: bool, reason: str, message: str) -> Condition:
    return Condition(type=plan.REACHABLE, status="True" if reachable else "False", reason=reason, message=message)
