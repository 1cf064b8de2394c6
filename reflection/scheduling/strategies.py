"""What NamespaceOffloading objects say of new pods."""

from __future__ import annotations

from typing import Final

from api.offloading.definitions import NAMESPACE_OFFLOADINGS
from api.offloading.namespaces import NAME, NamespaceOffloading
from kube.client import Client
from kube.errors import ApiError
from kube.store import Store
from reflection.scheduling import selectors
from reflection.scheduling.selectors import SelectorError
from reflection.scheduling.strategy import Strategy

_LOOK_SECONDS: Final = 2.0
"""Less than the webhook's own timeout."""


def strategy_of(offloading: NamespaceOffloading) -> Strategy | None:
    """The strategy for new pods; None while the object goes, or if its selector can't be used."""
    if offloading.metadata.deletion_timestamp:
        return None
    try:
        selector = selectors.of(offloading.spec.virtual_node_selector)
    except SelectorError:
        return None  # the object's Ready condition says so
    return Strategy(offloading.spec.pod_strategy, selector)


class DeclaredStrategies:
    """By namespace, from a store; asks the API server where the store may be behind (a namespace just offloaded)."""

    def __init__(self, client: Client, store: Store[NamespaceOffloading]) -> None:
        self._client = client
        self._store = store

    async def __call__(self, namespace: str) -> Strategy | None:
        """The strategy for new pods of a namespace; None if it is not offloaded. Raises KubeError."""
        found = self._store.get((namespace, NAME))
        if found is None:
            try:
                found = await self._client.get(
                    NAMESPACE_OFFLOADINGS,
                    namespace=namespace,
                    name=NAME,
                    decode=NamespaceOffloading,
                    timeout=_LOOK_SECONDS,
                )
            except ApiError as error:
                if error.not_found:
                    return None
                raise
        return strategy_of(found)
