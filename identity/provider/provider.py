"""The provider's side put together: what is watched, what is reconciled, and what wakes what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import prometheus_client

from api import installed
from api.authentication.credential_request import CredentialRequest
from api.authentication.definitions import CREDENTIAL_REQUESTS, RESOURCE_SLICES, TENANTS
from api.authentication.resource_slice import ResourceSlice
from api.authentication.tenant import Tenant
from identity import names
from identity.provider.credentials import Credentials
from identity.provider.grants import Inventory
from identity.provider.settings import ProviderSettings
from identity.provider.slices import Slices
from identity.provider.tenants import Tenants
from kube.client import Client
from kube.controller import Controller
from kube.events import EventRecorder
from kube.guard import Guard, InUse
from kube.reflector import Reflector
from kube.store import Change, Key

Task = tuple[str, Callable[[], Awaitable[None]]]


def utc_now() -> datetime:
    """The time."""
    return datetime.now(UTC)


class TenantProvider:
    """Owns all tasks that Tenants need. Start the caches, wait until they are synced, then start the workers.

    `check_leading` raises if this process may not write (any more).
    """

    def __init__(
        self,
        client: Client,
        settings: ProviderSettings,
        *,
        inventory: Inventory,
        recorder: EventRecorder,
        check_leading: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = utc_now,
        registry: prometheus_client.CollectorRegistry | None = None,
    ) -> None:
        self.tenants: Reflector[Tenant] = Reflector(
            client, TENANTS, decode=Tenant, on_change=self._tenant_changed, registry=registry
        )
        self.requests: Reflector[CredentialRequest] = Reflector(
            client,
            CREDENTIAL_REQUESTS,
            decode=CredentialRequest,
            indexes={"namespace": lambda asked: (asked.metadata.namespace,)},
            on_change=self._request_changed,
            registry=registry,
        )
        self.slices: Reflector[ResourceSlice] = Reflector(
            client,
            RESOURCE_SLICES,
            decode=ResourceSlice,
            indexes={"namespace": lambda one: (one.metadata.namespace,)},
            on_change=self._slice_changed,
            registry=registry,
        )
        guard = Guard(client, installed.tenants(settings.namespace), check=check_leading)
        tenants = Tenants(
            client,
            settings,
            in_use=InUse(guard, lambda: (one.metadata for one in self.tenants.store.values())),
            tenants=self.tenants.store,
            asked=self.requests.store,
            recorder=recorder,
            now=now,
            check_leading=check_leading,
        )
        credentials = Credentials(
            client,
            settings,
            asked=self.requests.store,
            tenants=self.tenants.store,
            now=now,
            check_leading=check_leading,
        )
        slices = Slices(
            client,
            settings,
            slices=self.slices.store,
            tenants=self.tenants.store,
            inventory=inventory,
            wake=lambda key: self.slice_controller.queue.add(key),  # noqa: PLW0108 - made below
            recorder=recorder,
            now=now,
            check_leading=check_leading,
        )
        self.tenant_controller: Controller[Key] = Controller(
            "tenants", tenants.reconcile, concurrency=8, registry=registry
        )
        self.request_controller: Controller[Key] = Controller(
            "credential-requests", credentials.reconcile, concurrency=8, registry=registry
        )
        self.slice_controller: Controller[Key] = Controller(
            "slices", slices.reconcile, concurrency=1, registry=registry
        )

    def caches(self) -> Iterable[tuple[str, Reflector[Any]]]:
        """What must be synced before decisions can be made."""
        return (("tenants", self.tenants), ("credential requests", self.requests), ("slices", self.slices))

    def workers(self) -> Iterable[Task]:
        """What decides and writes: run it while leading."""
        return (
            ("tenants", self._run_tenants),
            ("credential requests", self.request_controller.run),
            ("slices", self.slice_controller.run),
        )

    async def _run_tenants(self) -> None:
        self.tenant_controller.queue.add(("", ""))  # for those that ended before we began
        await self.tenant_controller.run()

    def _tenant_changed(self, change: Change[Tenant]) -> None:
        self.tenant_controller.queue.add(change.key)
        for asked in self.requests.store.by_index("namespace", names.tenant_namespace(change.key[1])):
            self.request_controller.queue.add(asked.metadata.key)
        for one in self.slices.store.by_index("namespace", names.tenant_namespace(change.key[1])):
            self.slice_controller.queue.add(one.metadata.key)

    def _request_changed(self, change: Change[CredentialRequest]) -> None:
        self.request_controller.queue.add(change.key)
        if change.new is None:  # an answer was taken: an invitation may be closed
            self.tenant_controller.queue.add(("", change.key[0].removeprefix(names.NAMESPACE_PREFIX)))

    def _slice_changed(self, change: Change[ResourceSlice]) -> None:
        self.slice_controller.queue.add(change.key)
