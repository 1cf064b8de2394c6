"""All of scheduling for one manager, put together: what watches, what serves, what decides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

import prometheus_client

from kube.client import Client
from kube.events import EventRecorder
from reflection.scheduling.controller import NamespaceOffloadings
from reflection.scheduling.leadership import Leadership
from reflection.scheduling.webhook import PodWebhook, WebhookSettings

Tasks = Iterable[tuple[str, Callable[[], Awaitable[None]]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulingSettings:
    """What the user decided."""

    consumer_id: str
    namespace: str
    """Where isthmus runs."""
    webhook: WebhookSettings | None = None
    """None: no webhook; pods are offloaded by the RuntimeClass, or by tolerations of their own."""
    cluster_role: str = "isthmus-namespace-offloadings"
    namespace_roles: Sequence[str] = ("isthmus-kinds",)
    """ClusterRoles that virtual kubelets get: everywhere, and in offloaded namespaces. None: somebody else binds."""


class Scheduling:
    """Owns the tasks. Every replica runs all of them: those that do not lead serve the webhook and write nothing."""

    def __init__(
        self,
        client: Client,
        settings: SchedulingSettings,
        *,
        leadership: Leadership,
        recorder: EventRecorder,
        registry: prometheus_client.CollectorRegistry | None = None,
    ) -> None:
        self.offloadings = NamespaceOffloadings(
            client,
            consumer_id=settings.consumer_id,
            own_namespace=settings.namespace,
            leadership=leadership,
            recorder=recorder,
            cluster_role=settings.cluster_role,
            namespace_roles=settings.namespace_roles,
            webhook=settings.webhook is not None,
            registry=registry,
        )
        self.webhook: PodWebhook | None = None
        if settings.webhook is not None:
            self.webhook = PodWebhook(
                client,
                settings.webhook,
                offloadings=self.offloadings.objects.store,
                leadership=leadership,
                registry=registry,
            )

    def server_tasks(self) -> Tasks:
        """What listens, once there is a certificate: do not wait for it."""
        return self.webhook.server_tasks() if self.webhook is not None else ()

    def cache_tasks(self) -> Tasks:
        """What watches."""
        more = self.webhook.cache_tasks() if self.webhook is not None else ()
        return (*self.offloadings.cache_tasks(), *more)

    def worker_tasks(self) -> Tasks:
        """What decides and writes; it waits for the caches by itself."""
        more = self.webhook.worker_tasks() if self.webhook is not None else ()
        return (*self.offloadings.worker_tasks(), *more)
