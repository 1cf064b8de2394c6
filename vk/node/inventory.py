"""What the provider's nodes have free: their sum, and the most that a single one has.

A node offers a sum, yet a pod needs one machine. So besides the sum the freest single node is told, on the Node and as
a metric; and the sum itself may be what the virtual node offers, less what others than our own pods use.

Counted are nodes that are ready and schedulable and, unless they were selected, have no taint that keeps pods away.
Reading nodes and all pods is more than a tenant needs elsewhere: `deploy/rbac/provider-inventory.yaml` grants it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Gauge

from kube.client import Client
from kube.podresources import Amounts
from kube.quantities import ZERO, Quantity, QuantityError
from kube.reflector import Reflector
from kube.resources import NODES
from vk.node.objects import Node
from vk.node.signals import Notifier
from vk.node.uses import Use, Uses

LARGEST_ANNOTATION = "offloading.isthmus.dev/largest-node"
"""On the Node: what the freest of the provider's nodes has free, as a JSON object."""
SETTLE_SECONDS = 2.0
_KEEPS_AWAY = ("NoSchedule", "NoExecute")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Free:
    """The result of counting, by resource name."""

    offered: Amounts
    """What all counted nodes have, less what others than our pods use."""
    largest: Amounts
    """What the freest node has left, our own pods taken off too."""


def counts(node: Node, *, selected: bool) -> bool:
    """Whether pods of ours may land on a node."""
    ready = node.status.condition("Ready")
    if ready is None or ready.status != "True" or node.spec.unschedulable:
        return False
    if node.metadata.labels.get("type") == "virtual-kubelet":
        return False  # a virtual node at the provider would lend on what it borrows
    return selected or not any(taint.effect in _KEEPS_AWAY for taint in node.spec.taints)


def free(nodes: Iterable[Node], uses: Iterable[Use], *, own: str, selected: bool) -> Free:
    """Count; `own` is the owner that we are. A resource that a node does not name it does not have."""
    left = {node.metadata.name: allocatable(node) for node in nodes if counts(node, selected=selected)}
    offered = {name: dict(amounts) for name, amounts in left.items()}
    for use in uses:
        if use.node not in left:
            continue
        take(left[use.node], use.amounts)
        if use.owner != own:
            take(offered[use.node], use.amounts)
    return Free(total(offered.values()), max(left.values(), key=_size, default={}))


def _size(amounts: Mapping[str, Quantity]) -> tuple[Quantity, Quantity]:
    return amounts.get("cpu", ZERO), amounts.get("memory", ZERO)


def take(amounts: Amounts, used: Mapping[str, Quantity]) -> None:
    """Take off, down to nothing, what is there."""
    for name, amount in used.items():
        if name in amounts:
            amounts[name] = max(ZERO, amounts[name] - amount)


def total(some: Iterable[Mapping[str, Quantity]]) -> Amounts:
    """Add up."""
    sums: Amounts = {}
    for amounts in some:
        for name, amount in amounts.items():
            sums[name] = sums.get(name, ZERO) + amount
    return sums


def allocatable(node: Node) -> Amounts:
    """What a node has for pods; what cannot be read counts as nothing."""
    found: Amounts = {}
    for name, text in node.status.allocatable.items():
        try:
            found[name] = Quantity.parse(text)
        except QuantityError:
            continue
    return found


class Inventory:
    """A `CapacitySource` over the provider's nodes, and the freest node for the Node's annotations."""

    def __init__(
        self,
        client: Client,
        *,
        node_selector: Mapping[str, str],
        own_label: tuple[str, str],
        limit: Mapping[str, Quantity],
        offer: bool,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self.changed = Notifier()
        self._selected = bool(node_selector)
        self._own = own_label[1]
        self._limit = dict(limit)
        self._offer = offer
        self._free: Free | None = None
        self._dirty = asyncio.Event()
        self._gauge = Gauge(
            "isthmus_largest_node_free", "What the provider's freest node has free", ["resource"], registry=registry
        )
        self._nodes: Reflector[Node] = Reflector(
            client,
            NODES,
            decode=Node,
            label_selector=",".join(f"{key}={value}" for key, value in sorted(node_selector.items())),
            on_change=lambda _change: self._dirty.set(),
            registry=registry,
        )
        self._uses = Uses(client, owner_label=own_label[0], on_change=self._dirty.set, registry=registry)

    @property
    def resources(self) -> dict[str, str] | None:
        """Resource name -> quantity; None before nodes and pods are known."""
        if not self._offer:
            return {name: str(amount) for name, amount in self._limit.items()}
        if self._free is None:
            return None
        offered = {**self._free.offered, **{n: a for n, a in self._limit.items() if n not in self._free.offered}}
        bounded = {name: min(amount, self._limit.get(name, amount)) for name, amount in offered.items()}
        return {name: str(a if name == "cpu" else a.floor()) for name, a in sorted(bounded.items())}

    @property
    def annotations(self) -> dict[str, str] | None:
        """What the Node's annotations say of it; None before it is known."""
        if self._free is None:
            return None
        largest = {name: str(amount) for name, amount in sorted(self._free.largest.items())}
        return {LARGEST_ANNOTATION: msgspec.json.encode(largest).decode()}

    async def run(self) -> None:
        """Watch nodes and pods forever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._nodes.run(), name="inventory-nodes")
            group.create_task(self._uses.pods.run(), name="inventory-pods")
            group.create_task(self._follow(), name="inventory")

    async def _follow(self) -> None:
        await self._nodes.synced.wait()
        await self._uses.pods.synced.wait()
        while True:
            self._dirty.clear()
            self._compute()
            await self._dirty.wait()
            await asyncio.sleep(SETTLE_SECONDS)

    def _compute(self) -> None:
        found = free(self._nodes.store.values(), self._uses.values(), own=self._own, selected=self._selected)
        if found == self._free:
            return
        self._free = found
        for name, amount in found.largest.items():
            self._gauge.labels(name).set(float(amount.nanos) / 1e9)
        _log.info("inventory", largest={name: str(amount) for name, amount in found.largest.items()})
        self.changed.notify()
