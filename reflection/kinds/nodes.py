"""Which virtual nodes are one provider's, by the label that they all carry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import prometheus_client

from kube.client import Client
from kube.objects import WithMetadata
from kube.reflector import Reflector
from kube.resources import NODES
from kube.store import Change
from reflection.forge import names
from reflection.scheduling.names import PROVIDER_LABEL


class ProviderNodes:
    """Watches Nodes and tells their names, first when all are known and then whenever they change."""

    def __init__(
        self,
        consumer: Client,
        *,
        provider: str,
        tell: Callable[[Iterable[str]], None],
        registry: prometheus_client.CollectorRegistry | None = None,
    ) -> None:
        self._tell = tell
        self._reflector: Reflector[WithMetadata] = Reflector(
            consumer,
            NODES,
            decode=WithMetadata,
            label_selector=f"{PROVIDER_LABEL}={names.label_value(provider)}",
            on_change=self._changed,
            registry=registry,
        )

    async def run(self) -> None:
        """Ends only by cancellation or a programming error."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._reflector.run(), name="provider nodes")
            await self._reflector.synced.wait()
            self._all()

    def _changed(self, _change: Change[WithMetadata]) -> None:
        if self._reflector.synced.is_set():
            self._all()

    def _all(self) -> None:
        self._tell(found.metadata.name for found in self._reflector.store.values())
