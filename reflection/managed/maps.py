"""The virtual kubelet's side of a namespace in managed mode: a NamespaceMap, and what the provider says to it.

All that is needed for it are rights in the consumer's tenant namespace; the provider's manager makes the namespace and
gives the rights in it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import msgspec
import prometheus_client
import structlog

from api.meta import condition
from api.offloading.definitions import NAMESPACE_MAPS
from api.offloading.namespaces import NamespaceMap
from kube.client import Client
from kube.errors import ApiError
from kube.reflector import Reflector, Timing
from kube.store import Change
from reflection.forge import names, sanitise
from reflection.managed import naming
from reflection.managed.names import tenant_namespace
from reflection.mapping import NamespaceMapping
from reflection.namespaces import (
    ForeignNamespaceError,
    NamespaceDeniedError,
    NamespaceGoingError,
    NamespacePendingError,
)

log = structlog.get_logger(__name__)

NEVER_MADE: Final = frozenset({"Denied", "ForeignNamespace"})
"""Reasons of a NamespaceMap for which nothing was ever made."""


class MapNamespaces:
    """`reflection.namespaces.MappedNamespaces` by NamespaceMaps. `changed` is told the consumer's namespace of each."""

    def __init__(
        self,
        provider: Client,
        mapping: NamespaceMapping,
        *,
        consumer_id: str,
        changed: Callable[[str], None],
        registry: prometheus_client.CollectorRegistry | None = None,
        timing: Timing | None = None,
    ) -> None:
        self._provider = provider
        self._mapping = mapping
        self._consumer_id = consumer_id
        self._tenant = tenant_namespace(consumer_id)
        self._changed = changed
        # What was found ready by asking, until the watch tells of it: that may take a while after an outage.
        self._ready: dict[str, NamespaceMap] = {}
        self._maps: Reflector[NamespaceMap] = Reflector(
            provider,
            NAMESPACE_MAPS,
            decode=NamespaceMap,
            namespace=self._tenant,
            on_change=self._map_changed,
            registry=registry,
            timing=timing,
        )

    def cache_tasks(self) -> Iterable[tuple[str, Callable[[], Awaitable[None]]]]:
        """What must run before decisions can be made."""
        return (("namespace maps", self._maps.run),)

    def _map_changed(self, change: Change[NamespaceMap]) -> None:
        self._ready.pop(change.key[1], None)
        self._changed(change.key[1])

    # -- see `MappedNamespaces`

    async def ensure(self, origin: str) -> str:
        """See `MappedNamespaces`. Until the provider's manager has answered, `NamespacePendingError`."""
        remote = self._mapping.remote(origin)
        known = self._maps.store.get((self._tenant, origin)) or self._ready.get(origin)
        asked = known or await self._find(origin)
        if asked is None:
            self._mapping.admits(origin)
            await self._create(origin, remote)
            raise NamespacePendingError(remote)
        named = naming.named(asked, consumer_id=self._consumer_id)
        if named != remote:
            text = f"NamespaceMap {self._tenant}/{origin} asks for {named!r} and not for {remote!r}: delete it first"
            raise NamespaceDeniedError(text)
        if asked.metadata.deletion_timestamp:
            if asked.status.namespace == remote:
                return remote  # what runs there is looked after to its end
            raise NamespaceGoingError(remote)
        self._answer(asked, remote)
        if known is None:
            self._ready[origin] = asked
        return remote

    def _answer(self, asked: NamespaceMap, remote: str) -> None:
        """Raise what the provider's manager says against it, if anything."""
        said = condition(asked.status.conditions, "Ready")
        if said is None:
            raise NamespacePendingError(remote)
        if said.status == "True":
            return
        match said.reason:
            case "ForeignNamespace":
                raise ForeignNamespaceError(remote)
            case "Denied":
                raise NamespaceDeniedError(sanitise.message(said.message) or said.reason)
            case _:
                raise NamespaceGoingError(remote, f"is not ready: {said.reason}: {sanitise.message(said.message)}")

    def admits(self, origin: str) -> None:
        """See `MappedNamespaces`."""
        self._mapping.admits(origin)
        asked = self._maps.store.get((self._tenant, origin))
        if asked is not None and asked.metadata.deletion_timestamp:
            raise NamespaceGoingError(asked.status.namespace or origin)

    def forget(self, remote: str) -> None:
        """See `MappedNamespaces`. What the watch told stays: the provider's manager notices, and says so."""
        self._ready = {origin: asked for origin, asked in self._ready.items() if asked.status.namespace != remote}

    async def existing(self) -> dict[str, str]:
        """See `MappedNamespaces`."""
        listing = await self._provider.list(NAMESPACE_MAPS, namespace=self._tenant, decode=NamespaceMap)
        found = {}
        for asked in listing.items:
            if asked.metadata.labels.get(names.MANAGED_BY_LABEL) == names.MANAGED_BY:
                found[naming.named(asked, consumer_id=self._consumer_id)] = asked.metadata.name
        return found

    async def is_gone(self, remote: str) -> bool:
        """See `MappedNamespaces`."""
        asked = await self._asking_for(remote)
        if asked is None:
            return True
        said = condition(asked.status.conditions, "Ready")
        return said is not None and said.reason in NEVER_MADE and not asked.status.namespace

    async def is_closed(self, remote: str) -> bool:
        """See `MappedNamespaces`."""
        asked = await self._asking_for(remote)
        return asked is None or bool(asked.metadata.deletion_timestamp) or await self.is_gone(remote)

    async def remove(self, remote: str) -> bool:
        """See `MappedNamespaces`. The provider's manager removes the namespace once nothing is in it."""
        asked = await self._asking_for(remote)
        if asked is not None:
            await self._delete(asked)
        return True

    async def unask(self, origin: str) -> None:
        """See `MappedNamespaces`."""
        asked = await self._find(origin)
        if asked is not None:
            await self._delete(asked)

    # -- requests

    async def _asking_for(self, remote: str) -> NamespaceMap | None:
        listing = await self._provider.list(NAMESPACE_MAPS, namespace=self._tenant, decode=NamespaceMap)
        named = (one for one in listing.items if naming.named(one, consumer_id=self._consumer_id) == remote)
        return next(named, None)

    async def _find(self, origin: str) -> NamespaceMap | None:
        return await self._provider.find(NAMESPACE_MAPS, namespace=self._tenant, name=origin, decode=NamespaceMap)

    async def _create(self, origin: str, remote: str) -> None:
        body = {
            "apiVersion": NAMESPACE_MAPS.api_version,
            "kind": NAMESPACE_MAPS.kind,
            "metadata": {"name": origin, "labels": {names.MANAGED_BY_LABEL: names.MANAGED_BY}},
            "spec": msgspec.to_builtins(naming.spec_for(origin, remote, consumer_id=self._consumer_id)),
        }
        try:
            await self._provider.create(NAMESPACE_MAPS, body, namespace=self._tenant)
        except ApiError as error:
            if not error.already_exists:
                raise
        else:
            log.info("asked for provider namespace", namespace=remote, origin=origin)

    async def _delete(self, asked: NamespaceMap) -> None:
        if asked.metadata.deletion_timestamp:
            return
        self._ready.pop(asked.metadata.name, None)
        try:
            await self._provider.delete(
                NAMESPACE_MAPS, name=asked.metadata.name, namespace=self._tenant, uid=asked.metadata.uid
            )
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise
        log.info("gave provider namespace back", namespace=asked.status.namespace, origin=asked.metadata.name)
