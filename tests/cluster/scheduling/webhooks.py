"""A running webhook of a test's own."""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from prometheus_client import CollectorRegistry

from api.offloading.definitions import NAMESPACE_OFFLOADINGS
from api.offloading.namespaces import NamespaceOffloading
from kube.client import Client
from kube.errors import ApiError
from kube.reflector import Reflector
from reflection.scheduling.leadership import Alone
from reflection.scheduling.registration import WEBHOOK_CONFIGURATIONS
from reflection.scheduling.webhook import PodWebhook, WebhookSettings
from tests.cluster.scheduling.waiting import Json, running, until


@dataclass
class Hook:
    """A running webhook of the test's own; only namespaces that the test labels are shown to it."""

    client: Client
    settings: WebhookSettings
    webhook: PodWebhook
    registry: CollectorRegistry

    async def configuration(self) -> Json:
        return await self.client.get(WEBHOOK_CONFIGURATIONS, name=self.settings.keeper.configuration)

    async def bundle(self) -> bytes:
        return base64.b64decode((await self.configuration())["webhooks"][0]["clientConfig"]["caBundle"])

    async def authorities(self) -> list[x509.Certificate]:
        """Newest first."""
        return x509.load_pem_x509_certificates(await self.bundle())

    async def trusted(self) -> ssl.SSLContext:
        """What an API server would trust at this moment."""
        return ssl.create_default_context(cadata=(await self.bundle()).decode())

    def asked(self) -> float:
        found = (
            self.registry.get_sample_value("isthmus_webhook_requests_total", {"code": str(code)})
            for code in (200, 400, 413, 503)
        )
        return sum(value or 0.0 for value in found)


@asynccontextmanager
async def hook(client: Client, settings: WebhookSettings) -> AsyncIterator[Hook]:
    """Run one until it is registered; the registration stays, for tests of what happens without us."""
    registry = CollectorRegistry()
    offloadings = Reflector(
        client,
        NAMESPACE_OFFLOADINGS,
        decode=NamespaceOffloading,
        on_change=lambda _change: None,
        registry=registry,
    )
    webhook = PodWebhook(client, settings, offloadings=offloadings.store, leadership=Alone(), registry=registry)
    made = Hook(client, settings, webhook, registry)
    tasks = (*webhook.server_tasks(), *webhook.cache_tasks(), *webhook.worker_tasks())
    async with running(("offloadings", offloadings.run), *tasks):
        await webhook.server.ready()
        await until(lambda: exists(made), what="the registration")
        yield made


async def exists(one: Hook) -> bool:
    return await found(one.configuration())


async def found(request: Awaitable[Json]) -> bool:
    try:
        return bool(await request)
    except ApiError as error:
        if error.not_found:
            return False
        raise


def no_offloadings(client: Client) -> Any:
    return Reflector(client, NAMESPACE_OFFLOADINGS, decode=NamespaceOffloading, on_change=lambda _change: None).store
