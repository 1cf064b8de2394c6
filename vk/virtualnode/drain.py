"""Emptying a virtual node before it goes: cordon, then evictions in parallel, each honouring disruption budgets.

A pod whose budget allows no eviction now is tried again and holds up nobody else. After the deadline, if the user set
one, what is left is deleted with its own grace. Pods of DaemonSets and mirror pods stay: they would come back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from api.offloading.virtual_node import Drain
from kube.client import Client
from kube.errors import ApiError
from kube.objects import WithMetadata
from kube.resources import NODES, PODS

Json = dict[str, Any]
T = TypeVar("T")

PARALLEL = 32
_MOST_BLOCKED = 20
_MIRROR = "kubernetes.io/config.mirror"


@dataclass(slots=True)
class Progress:
    """What one node's drain has seen."""

    total: int = 0
    """How many pods at least, by an earlier process."""
    seen: set[str] = field(default_factory=set)
    """UIDs of all pods that were there at any time."""

    def drain(self, left: Sequence[WithMetadata], blocked: Sequence[str]) -> Drain:
        """The progress as the status shows it."""
        self.seen |= {pod.metadata.uid for pod in left}
        self.total = max(self.total, len(self.seen))
        return Drain(
            total=self.total,
            evicted=self.total - len(left),
            remaining=len(left),
            blocked=tuple(sorted(blocked)[:_MOST_BLOCKED]),
        )


async def cordon(client: Client, node: str) -> bool:
    """Let nothing new onto the node; False if there is no such node."""
    try:
        await client.patch(NODES, {"spec": {"unschedulable": True}}, name=node)
    except ApiError as error:
        if not error.not_found:
            raise
        return False
    return True


async def pods_on(client: Client, node: str) -> list[WithMetadata]:
    """The pods that a drain has to move."""
    listing = await client.list(PODS, field_selector=f"spec.nodeName={node}", decode=WithMetadata)
    return [pod for pod in listing.items if _moves(pod)]


def _moves(pod: WithMetadata) -> bool:
    daemon = any(owner.controller and owner.kind == "DaemonSet" for owner in pod.metadata.owner_references)
    return not daemon and _MIRROR not in pod.metadata.annotations


async def evict(client: Client, pods: Sequence[WithMetadata]) -> list[str]:
    """Ask all that are not on their way out to leave; return what may not go now, each with the reason."""
    return [answer for answer in await _each(pods, lambda pod: _evict_one(client, pod)) if answer]


async def delete(client: Client, pods: Sequence[WithMetadata]) -> None:
    """Past the deadline: delete what is left, with its own grace."""
    await _each(pods, lambda pod: _delete_one(client, pod))


async def _each(pods: Sequence[WithMetadata], work: Callable[[WithMetadata], Awaitable[T]]) -> list[T]:
    """Some at a time, of those that are not on their way out: one that takes long holds up no other."""
    slots = asyncio.Semaphore(PARALLEL)

    async def one(pod: WithMetadata) -> T:
        async with slots:
            return await work(pod)

    return await asyncio.gather(*(one(pod) for pod in pods if pod.metadata.deletion_timestamp is None))


async def _evict_one(client: Client, pod: WithMetadata) -> str | None:
    name, namespace = pod.metadata.name, pod.metadata.namespace
    body: Json = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
        "deleteOptions": {"preconditions": {"uid": pod.metadata.uid}},
    }
    try:
        await client.create(PODS, body, namespace=namespace, name=name, subresource="eviction")
    except ApiError as error:
        if error.not_found or error.conflict:
            return None
        return f"{namespace}/{name}: {error.message[:200]}"
    return None


async def _delete_one(client: Client, pod: WithMetadata) -> None:
    try:
        await client.delete(PODS, name=pod.metadata.name, namespace=pod.metadata.namespace, uid=pod.metadata.uid)
    except ApiError as error:
        if not (error.not_found or error.conflict):
            raise
