"""What the nodes of a provider have for tenants' slices: `identity.provider.grants.Inventory` by two watches.

Reading nodes and all pods is the manager's right only (`deploy/rbac/tenants`); consumers see none of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import prometheus_client

from identity import names
from identity.provider.grants import Amounts, Stock
from kube.client import Client
from kube.objects import Metadata, Object
from kube.podresources import pod_amounts
from kube.quantities import ZERO, Quantity, QuantityError
from kube.reflector import Reflector
from kube.resources import NODES, PODS
from kube.store import Change, Key
from vk.node.inventory import Use, allocatable, counts
from vk.node.objects import Node

_RUNNING = "status.phase!=Succeeded,status.phase!=Failed"
_USER = tuple[Use, str]
"""What a pod takes, and whose it is: a consumer's id, or nothing."""


class NodeStock:
    """Run its caches for ever."""

    def __init__(self, client: Client, *, registry: prometheus_client.CollectorRegistry | None = None) -> None:
        self._uses: dict[Key, _USER] = {}
        self._nodes: Reflector[Node] = Reflector(
            client, NODES, decode=Node, on_change=lambda _change: None, registry=registry
        )
        self._pods: Reflector[Object] = Reflector(
            client,
            PODS,
            decode=Object,
            field_selector=_RUNNING,
            kept=_bare,
            on_change=self._observe,
            registry=registry,
        )

    def caches(self) -> Iterable[tuple[str, Reflector[Any]]]:
        """What must be synced before anything is known."""
        return (("nodes", self._nodes), ("all pods", self._pods))

    def stock(self, selector: Mapping[str, str]) -> Stock | None:
        """See `identity.provider.grants.Inventory`."""
        if not (self._nodes.synced.is_set() and self._pods.synced.is_set()):
            return None
        return count(self._chosen(selector), self._uses.values())

    def nodes(self, selector: Mapping[str, str]) -> frozenset[str]:
        """See `identity.provider.grants.Inventory`."""
        return frozenset(node.metadata.name for node in self._chosen(selector))

    def _chosen(self, selector: Mapping[str, str]) -> list[Node]:
        return [
            node
            for node in self._nodes.store.values()
            if counts(node, selected=bool(selector)) and selector.items() <= node.metadata.labels.items()
        ]

    def _observe(self, change: Change[Object]) -> None:
        self._uses.pop(change.key, None)
        if change.new is not None and (use := _use(change.new)) is not None:
            self._uses[change.key] = use


def count(nodes: Iterable[Node], uses: Iterable[_USER]) -> Stock:
    """Add up. What others' pods hold of a node is taken off that node, down to nothing."""
    left = {node.metadata.name: allocatable(node) for node in nodes}
    used: dict[str, Amounts] = {}
    for use, consumer_id in uses:
        if use.node not in left:
            continue
        if consumer_id:
            _add(used.setdefault(consumer_id, {}), use.amounts)
            continue
        have = left[use.node]
        for name, amount in use.amounts.items():
            if name in have:
                have[name] = max(ZERO, have[name] - amount)
    offered: Amounts = {}
    for amounts in left.values():
        _add(offered, amounts)
    return Stock(nodes=frozenset(left), offered=offered, used=used)


def _add(sums: Amounts, amounts: Mapping[str, Quantity]) -> None:
    for name, amount in amounts.items():
        sums[name] = sums.get(name, ZERO) + amount


def _use(pod: Object) -> _USER | None:
    try:
        spec = msgspec.json.decode(pod.spec)
        node, amounts = spec.get("nodeName"), pod_amounts(spec, kind="requests")
    except (msgspec.DecodeError, QuantityError, AttributeError, TypeError):
        return None
    amounts["pods"] = Quantity.of(1)
    return (Use(node, amounts, ours=False), pod.metadata.labels.get(names.CONSUMER_LABEL, "")) if node else None


def _bare(pod: Object) -> Object:
    """Only what tells one version of a pod from another: what it uses is counted as it comes."""
    full = pod.metadata
    return Object(
        metadata=Metadata(
            name=full.name, namespace=full.namespace, uid=full.uid, resource_version=full.resource_version
        )
    )
