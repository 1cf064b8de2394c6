"""The provider's side of managed mode, put together: what is watched, what is reconciled, and what wakes what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import prometheus_client

from api.offloading.definitions import NAMESPACE_MAPS, SHADOW_PODS
from api.offloading.namespaces import NamespaceMap
from api.offloading.shadow_pod import ShadowPod
from kube.client import Client
from kube.controller import Controller
from kube.objects import Object
from kube.queue import Priority, WorkQueue
from kube.reflector import Reflector, Timing
from kube.resources import NAMESPACES, PODS
from kube.store import Change, Key
from reflection.decode import starting
from reflection.forge import names
from reflection.managed.admission import Admission
from reflection.managed.names import SHADOW_LABEL, tenant_namespace
from reflection.managed.namespace_maps import NamespaceMaps
from reflection.managed.reports import Reporter
from reflection.managed.settings import ManagedSettings
from reflection.managed.shadow_pods import ShadowPods
from reflection.managed.tenancy import Everyone, Tenants

EVERYONE = Everyone()
START_DELAY = 0.1
"""Seconds that a change of a pod that is not Running yet waits for the next one."""
Task = tuple[str, Callable[[], Awaitable[None]]]


def utc_now() -> str:
    """The time as Kubernetes writes it (RFC 3339, seconds)."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class ManagedProvider:
    """Owns all tasks of a managed provider. Start the caches, wait until they are synced, then start the workers.

    `check_leading` raises if this process may not write (any more); replicas that do not lead keep their caches warm.
    """

    def __init__(
        self,
        client: Client,
        settings: ManagedSettings,
        *,
        tenants: Tenants = EVERYONE,
        check_leading: Callable[[], None] = lambda: None,
        now: Callable[[], str] = utc_now,
        registry: prometheus_client.CollectorRegistry | None = None,
        timing: Timing | None = None,
        concurrency: int = 32,
    ) -> None:
        def reflect(resource: Any, kind: Any, **options: Any) -> Reflector[Any]:
            return Reflector(client, resource, decode=kind, registry=registry, timing=timing, **options)

        self.maps: Reflector[NamespaceMap] = reflect(NAMESPACE_MAPS, NamespaceMap, on_change=self._map_changed)
        self.namespaces: Reflector[Object] = reflect(
            NAMESPACES, Object, label_selector=names.CONSUMER_LABEL, on_change=self._namespace_changed
        )
        self.shadows: Reflector[ShadowPod] = reflect(
            SHADOW_PODS,
            ShadowPod,
            indexes={"namespace": lambda shadow: (shadow.metadata.namespace,)},
            on_change=self._shadow_changed,
        )
        self.pods: Reflector[Object] = reflect(PODS, Object, label_selector=SHADOW_LABEL, on_change=self._pod_changed)
        self._admission = Admission(tenants, pods=self.pods.store)
        shadow_pods = ShadowPods(
            client,
            tenants,
            admission=self._admission,
            shadows=self.shadows.store,
            pods=self.pods.store,
            namespaces=self.namespaces.store,
            reporter=Reporter(client, now=now),
            check_leading=check_leading,
        )
        namespace_maps = NamespaceMaps(
            client, settings, tenants, maps=self.maps.store, now=now, check_leading=check_leading
        )
        self.shadow_controller: Controller[Key] = Controller(
            "shadow-pods",
            shadow_pods.reconcile,
            queue=WorkQueue(flow=self._consumer_of),
            concurrency=concurrency,
            registry=registry,
        )
        self.map_controller: Controller[Key] = Controller(
            "namespace-maps",
            namespace_maps.reconcile,
            queue=WorkQueue(flow=lambda key: key[0]),
            concurrency=8,
            registry=registry,
        )

    def caches(self) -> Iterable[tuple[str, Reflector[Any]]]:
        """What must be synced before decisions can be made."""
        return (
            ("namespace maps", self.maps),
            ("consumers' namespaces", self.namespaces),
            ("shadow pods", self.shadows),
            ("consumers' pods", self.pods),
        )

    def workers(self) -> Iterable[Task]:
        """What decides and writes: run it while leading."""
        return (("shadow pods", self.shadow_controller.run), ("namespace maps", self.map_controller.run))

    def tenant_changed(self, consumer_id: str) -> None:
        """What a consumer may have has changed: look at what waits, and at its namespaces."""
        for namespace in self.namespaces.store.values():
            if namespace.metadata.labels.get(names.CONSUMER_LABEL) == names.label_value(consumer_id):
                for shadow in self.shadows.store.by_index("namespace", namespace.metadata.name):
                    if not shadow.status.phase:
                        self.shadow_controller.queue.add(shadow.metadata.key)
        for asked in self.maps.store.values():
            if asked.metadata.namespace == tenant_namespace(consumer_id):
                self.map_controller.queue.add(asked.metadata.key)

    def _consumer_of(self, key: Key) -> str:
        """Whose a ShadowPod is: a consumer that asks for many must not hold up others (abuse test A29)."""
        found = self.namespaces.store.get(("", key[0]))
        return found.metadata.labels.get(names.CONSUMER_LABEL, "") if found is not None else key[0]

    # -- what wakes what

    def _map_changed(self, change: Change[NamespaceMap]) -> None:
        self.map_controller.queue.add(change.key, priority=_priority(change.initial))

    def _namespace_changed(self, change: Change[Object]) -> None:
        """A namespace came, changed or went: look at all that is to be in it, and at what it was made for."""
        for shadow in self.shadows.store.by_index("namespace", change.key[1]):
            self.shadow_controller.queue.add(shadow.metadata.key, priority=_priority(change.initial))
        for asked in self.maps.store.values():
            if asked.status.namespace == change.key[1]:
                self.map_controller.queue.add(asked.metadata.key, priority=_priority(change.initial))

    def _shadow_changed(self, change: Change[ShadowPod]) -> None:
        if change.new is None:
            self._wake_leaving(change.key[0])
        self.shadow_controller.queue.add(change.key, priority=_priority(change.initial))

    def _wake_leaving(self, namespace: str) -> None:
        """A NamespaceMap that goes waits for its namespace's last ShadowPod."""
        for asked in self.maps.store.values():
            if asked.metadata.deletion_timestamp and asked.status.namespace == namespace:
                self.map_controller.queue.add(asked.metadata.key)

    def _pod_changed(self, change: Change[Object]) -> None:
        self._admission.pod_changed(change)
        delay = START_DELAY if change.new is not None and starting(change.new) else 0.0
        self.shadow_controller.queue.add(change.key, delay=delay, priority=_priority(change.initial))


def _priority(initial: bool) -> Priority:
    return Priority.INITIAL if initial else Priority.FRESH
