"""The pod webhook put together: strategies, server, certificate, registration. Every replica runs one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import prometheus_client

from api.offloading.namespaces import NamespaceOffloading
from kube.client import Client
from kube.store import Store
from reflection.scheduling.fitness import unfit
from reflection.scheduling.keeper import Keeper, KeeperSettings
from reflection.scheduling.leadership import Leadership
from reflection.scheduling.preparer import Preparer
from reflection.scheduling.server import Identity, Limits, WebhookServer
from reflection.scheduling.strategies import DeclaredStrategies

Tasks = Iterable[tuple[str, Callable[[], Awaitable[None]]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """Where the webhook listens, and where API servers find it."""

    keeper: KeeperSettings
    host: str = "0.0.0.0"
    port: int = 9443
    client_ca: bytes | None = field(default=None, repr=False)
    """PEM of the authorities of API servers that identify themselves; None: anybody may ask."""
    limits: Limits = field(default_factory=Limits)


class PodWebhook:
    """Owns the webhook's tasks. The store of NamespaceOffloadings is the caller's."""

    def __init__(
        self,
        client: Client,
        settings: WebhookSettings,
        *,
        offloadings: Store[NamespaceOffloading],
        leadership: Leadership,
        registry: prometheus_client.CollectorRegistry | None = None,
    ) -> None:
        identity = Identity(client_ca=settings.client_ca)
        self.preparer = Preparer(DeclaredStrategies(client, offloadings), unfit=unfit, registry=registry)
        self.server = WebhookServer(
            self.preparer.answer,
            host=settings.host,
            port=settings.port,
            identity=identity,
            limits=settings.limits,
            registry=registry,
        )
        self.keeper = Keeper(client, settings.keeper, identity=identity, leadership=leadership, registry=registry)

    def server_tasks(self) -> Tasks:
        """What listens; it waits for a certificate by itself, which the leader makes."""
        return (("pod webhook", self.server.run),)

    def cache_tasks(self) -> Tasks:
        """What watches the certificate and the registration."""
        return self.keeper.cache_tasks()

    def worker_tasks(self) -> Tasks:
        """What makes and renews them, in the process that leads."""
        return self.keeper.worker_tasks()
