"""Removing provider namespaces that we made and nobody uses any more."""

from __future__ import annotations

from collections.abc import Callable

import prometheus_client
import structlog

from kube.client import Client
from kube.controller import Controller, Result
from kube.errors import ApiError
from kube.objects import WithMetadata
from kube.resources import Resource
from reflection import ownership
from reflection.caches import RemoteCaches
from reflection.mapping import NamespaceMapping, NamespaceNotMappedError
from reflection.namespaces import MappedNamespaces

log = structlog.get_logger(__name__)


class NamespaceCleanup:
    """By consumer namespace: it goes only if a complete list shows no pod of this consumer in it."""

    def __init__(
        self,
        provider: Client,
        namespaces: MappedNamespaces,
        mapping: NamespaceMapping,
        caches: RemoteCaches,
        *,
        remotes: Resource,
        consumer_id: str,
        linger: float,
        in_use: Callable[[str], bool],
        removed: Callable[[str], None],
        registry: prometheus_client.CollectorRegistry | None = None,
    ) -> None:
        self._provider = provider
        self._namespaces = namespaces
        self._mapping = mapping
        self._caches = caches
        self._remotes = remotes
        self._consumer_id = consumer_id
        self._linger = linger
        self._in_use = in_use
        self._removed = removed
        self.controller: Controller[str] = Controller("namespaces", self._reconcile, registry=registry)

    def maybe_unused(self, origin: str) -> None:
        """A pod of this consumer namespace is gone."""
        if self._mapping.managed and not self._in_use(origin) and not self._mapping.holds(origin):
            self.controller.queue.add(origin, delay=self._linger)

    async def run(self) -> None:
        """Remove unused namespaces; ends only by cancellation or a programming error."""
        await self.controller.run()

    async def _reconcile(self, origin: str) -> Result | None:
        if self._in_use(origin) or self._mapping.holds(origin):
            return None
        try:
            remote = self._mapping.remote(origin)
        except NamespaceNotMappedError:
            return None
        caches = self._caches.get(remote)
        if caches is None or not caches.synced:
            return None
        if not await self._unused(remote):
            return Result(requeue_after=self._linger)
        if self._in_use(origin):
            return None
        if await self._namespaces.remove(remote):
            self._caches.drop(remote)
            self._removed(remote)
        return None

    async def _unused(self, remote: str) -> bool:
        """Whether the namespace has no pod of this consumer, or is not there any more."""
        selector = ownership.consumer_selector(self._consumer_id)  # pods of other virtual nodes count too
        try:
            listing = await self._provider.list(
                self._remotes, namespace=remote, label_selector=selector, decode=WithMetadata
            )
        except ApiError as error:
            if error.forbidden and await self._namespaces.is_gone(remote):
                return True  # removed by somebody else, and our rights in it too
            raise
        return not listing.items
