"""The consumer's side put together: what is watched, what is reconciled, and what wakes what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import prometheus_client

from api import installed
from api.authentication.definitions import IDENTITIES, RESOURCE_SLICES
from api.authentication.identity import Identity
from api.authentication.resource_slice import ResourceSlice
from identity.consumer.identities import Identities
from identity.consumer.settings import ConsumerSettings
from identity.consumer.slices import Slices
from kube.client import Client
from kube.controller import Controller
from kube.events import EventRecorder
from kube.guard import Guard, InUse
from kube.objects import Metadata
from kube.reflector import Reflector
from kube.store import Change, Key

Task = tuple[str, Callable[[], Awaitable[None]]]


def utc_now() -> datetime:
    """The time."""
    return datetime.now(UTC)


class IdentityConsumer:
    """Owns all tasks that Identities need. Start the caches, wait until they are synced, then start the workers."""

    def __init__(
        self,
        client: Client,
        settings: ConsumerSettings,
        *,
        recorder: EventRecorder,
        check_leading: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = utc_now,
        registry: prometheus_client.CollectorRegistry | None = None,
    ) -> None:
        self.identities: Reflector[Identity] = Reflector(
            client, IDENTITIES, decode=Identity, on_change=self._identity_changed, registry=registry
        )
        self.slices: Reflector[ResourceSlice] = Reflector(
            client,
            RESOURCE_SLICES,
            decode=ResourceSlice,
            namespace=settings.namespace,
            on_change=self._slice_changed,
            registry=registry,
        )
        guard = Guard(client, installed.peers(settings.namespace), check=check_leading)
        in_use = InUse(guard, self._all)
        identities = Identities(
            client,
            settings,
            in_use=in_use,
            identities=self.identities.store,
            recorder=recorder,
            now=now,
            check_leading=check_leading,
        )
        slices = Slices(
            client,
            settings,
            in_use=in_use,
            slices=self.slices.store,
            identities=self.identities.store,
            now=now,
            check_leading=check_leading,
        )
        self.identity_controller: Controller[Key] = Controller(
            "identities", identities.reconcile, concurrency=8, registry=registry
        )
        self.slice_controller: Controller[Key] = Controller(
            "own-slices", slices.reconcile, concurrency=8, registry=registry
        )

    def caches(self) -> Iterable[tuple[str, Reflector[Any]]]:
        """What must be synced before decisions can be made."""
        return (("identities", self.identities), ("own slices", self.slices))

    def workers(self) -> Iterable[Task]:
        """What decides and writes: run it while leading."""
        return (("identities", self._run_identities), ("own slices", self.slice_controller.run))

    async def _run_identities(self) -> None:
        self.identity_controller.queue.add(("", ""))  # for those that ended before we began
        await self.identity_controller.run()

    def _all(self) -> Iterable[Metadata]:
        """What needs us to end."""
        for store in (self.identities.store, self.slices.store):
            for one in store.values():
                yield one.metadata

    def _identity_changed(self, change: Change[Identity]) -> None:
        self.identity_controller.queue.add(change.key)
        for one in self.slices.store.values():
            if one.spec.identity == change.key[1]:
                self.slice_controller.queue.add(one.metadata.key)

    def _slice_changed(self, change: Change[ResourceSlice]) -> None:
        self.slice_controller.queue.add(change.key)
