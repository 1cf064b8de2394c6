"""Which pods offloading has brought here and there, for the network's policy: what plugs the two modules together.

A peer has one name in a cluster: that of its NetworkPeering, which VirtualNodes name as their provider, and which is
the consumer's id on pods that it runs here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import prometheus_client

from api.offloading.definitions import VIRTUAL_NODES
from api.offloading.virtual_node import VirtualNode
from kube.client import Client
from kube.reflector import Reflector
from kube.resources import PODS
from kube.store import Change
from netfabric.controller.facts import Offloaded
from netfabric.controller.nodes import Pod
from reflection.forge.names import CONSUMER_LABEL, label_value


class OffloadedPods:
    """`OffloadedPods` of netfabric. `changed` is called when an answer may have changed."""

    def __init__(
        self,
        client: Client,
        *,
        borrows: bool,
        registry: prometheus_client.CollectorRegistry | None = None,
    ) -> None:
        """`borrows`: whether this cluster has virtual nodes of its own."""
        self.changed: Callable[[], None] = lambda: None
        self._client = client
        self._registry = registry
        self._here: Reflector[Pod] = self._pods(label_selector=CONSUMER_LABEL)
        self._virtual_nodes: Reflector[VirtualNode] | None = None
        if borrows:
            self._virtual_nodes = Reflector(
                client, VIRTUAL_NODES, decode=VirtualNode, on_change=self._nodes_changed, registry=registry
            )
        self._there: dict[str, Reflector[Pod]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._moved = asyncio.Event()

    def of(self, peer: str) -> Offloaded:
        """Those between this cluster and the peer of this name."""
        value = label_value(peer)
        here = (pod for pod in self._here.store.values() if pod.metadata.labels.get(CONSUMER_LABEL) == value)
        nodes = self._nodes(peer)
        there = (pod for node, found in self._there.items() if node in nodes for pod in found.store.values())
        return Offloaded(here=_addresses(here), there=_addresses(there))

    def cache_tasks(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        """What watches, for ever."""
        tasks: list[tuple[str, Callable[[], Awaitable[None]]]] = [("pods of peers", self._here.run)]
        if self._virtual_nodes is not None:
            tasks += [("peers' virtual nodes", self._virtual_nodes.run), ("pods at peers", self._watch_nodes)]
        return tasks

    def _nodes(self, peer: str) -> set[str]:
        known = self._virtual_nodes.store.values() if self._virtual_nodes is not None else ()
        return {virtual.node for virtual in known if virtual.spec.provider == peer}

    async def _watch_nodes(self) -> None:
        """One watch a virtual node: the API server finds a node's pods without looking at all others."""
        assert self._virtual_nodes is not None
        async with asyncio.TaskGroup() as group:
            while True:
                wanted = {virtual.node for virtual in self._virtual_nodes.store.values()}
                for gone in self._tasks.keys() - wanted:
                    self._tasks.pop(gone).cancel()
                    del self._there[gone]
                for node in wanted - self._tasks.keys():
                    self._there[node] = self._pods(field_selector=f"spec.nodeName={node}")
                    self._tasks[node] = group.create_task(self._there[node].run(), name=f"pods at peers/{node}")
                self._moved.clear()
                self.changed()
                await self._moved.wait()

    def _pods(self, *, label_selector: str = "", field_selector: str = "") -> Reflector[Pod]:
        return Reflector(
            self._client,
            PODS,
            decode=Pod,
            label_selector=label_selector,
            field_selector=field_selector,
            on_change=self._pod_changed,
            registry=self._registry,
        )

    def _nodes_changed(self, _change: Change[VirtualNode]) -> None:
        self._moved.set()

    def _pod_changed(self, change: Change[Pod]) -> None:
        if _of(change.old) != _of(change.new):
            self.changed()


def _of(pod: Pod | None) -> tuple[str, ...]:
    return pod.status.addresses if pod is not None and pod.alive else ()


def _addresses(pods: Iterable[Pod]) -> frozenset[str]:
    return frozenset(address for pod in pods for address in _of(pod))
