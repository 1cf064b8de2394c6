"""What the nodes of a provider have for tenants' slices: `identity.provider.grants.Inventory` by two watches.

Reading nodes and all pods is the manager's right only (`deploy/rbac/tenants`); consumers see none of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import prometheus_client

from identity import names
from identity.provider.grants import Amounts, Stock
from kube.client import Client
from kube.reflector import Reflector
from kube.resources import NODES
from vk.node.inventory import allocatable, counts, take, total
from vk.node.objects import Node
from vk.node.uses import Use, Uses


class NodeStock:
    """Run its caches for ever."""

    def __init__(self, client: Client, *, registry: prometheus_client.CollectorRegistry | None = None) -> None:
        self._uses = Uses(client, owner_label=names.CONSUMER_LABEL, registry=registry)
        self._nodes: Reflector[Node] = Reflector(
            client, NODES, decode=Node, on_change=lambda _change: None, registry=registry
        )

    def caches(self) -> Iterable[tuple[str, Reflector[Any]]]:
        """What must be synced before anything is known."""
        return (("nodes", self._nodes), ("all pods", self._uses.pods))

    def stock(self, selector: Mapping[str, str]) -> Stock | None:
        """See `identity.provider.grants.Inventory`."""
        if not (self._nodes.synced.is_set() and self._uses.pods.synced.is_set()):
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


def count(nodes: Iterable[Node], uses: Iterable[Use]) -> Stock:
    """Add up. What others' pods hold of a node is taken off that node, down to nothing."""
    left = {node.metadata.name: allocatable(node) for node in nodes}
    used: dict[str, Amounts] = {}
    for use in uses:
        if use.node in left and use.owner:
            used[use.owner] = total((used.get(use.owner, {}), use.amounts))
        elif use.node in left:
            take(left[use.node], use.amounts)
    return Stock(nodes=frozenset(left), offered=total(left.values()), used=used)
