"""What is at the provider: one set of reflectors per mapped namespace, started when the namespace is first needed.

Per namespace and not per cluster, because the provider's credential is good for mapped namespaces only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import prometheus_client
import structlog

from kube.client import Client
from kube.objects import ConfigMap, Event, Metadata, Object, Secret
from kube.reflector import Reflector, Timing
from kube.resources import CONFIG_MAPS, EVENTS, PODS, SECRETS, Resource
from kube.store import Change

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RemoteNamespace:
    """The reflectors of one provider namespace. In direct mode the remotes are the pods: it is one reflector."""

    name: str
    remotes: Reflector[Object]
    pods: Reflector[Object]
    config_maps: Reflector[ConfigMap]
    secrets: Reflector[Secret]
    events: Reflector[Event]

    @property
    def synced(self) -> bool:
        """Whether all that decisions rest on was listed completely (events decide nothing)."""
        return all(one.synced.is_set() for one in self.needed)

    @property
    def needed(self) -> tuple[Reflector[Any], ...]:
        """What decisions rest on."""
        pods = (self.pods,) if self.pods is self.remotes else (self.pods, self.remotes)
        return (*pods, self.config_maps, self.secrets)


@dataclass(frozen=True, slots=True)
class CacheListeners:
    """Who is told of changes. Each is called on the event loop and must not block."""

    pod: Callable[[str, Change[Object]], None]
    remote: Callable[[str, Change[Object]], None]
    """Of remotes that are no pods."""
    config_map: Callable[[str, Change[ConfigMap]], None]
    secret: Callable[[str, Change[Secret]], None]
    event: Callable[[str, Change[Event]], None]
    synced: Callable[[str], None]


class RemoteCaches:
    """Owns the reflectors of all mapped provider namespaces. `run` must be running for `ensure` to have effect."""

    def __init__(
        self,
        client: Client,
        *,
        remotes: Resource,
        node_selector: str,
        consumer_selector: str,
        listeners: CacheListeners,
        registry: prometheus_client.CollectorRegistry | None = None,
        timing: Timing | None = None,
    ) -> None:
        self._client = client
        self._remotes = remotes
        self._node_selector = node_selector
        self._consumer_selector = consumer_selector
        self._listeners = listeners
        self._registry = registry
        self._timing = timing
        self._namespaces: dict[str, RemoteNamespace] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wanted: asyncio.Queue[str] = asyncio.Queue()

    def ensure(self, namespace: str) -> RemoteNamespace:
        """The caches of `namespace`, started if they were not; they may not be synced yet."""
        found = self._namespaces.get(namespace)
        if found is None:
            found = self._namespaces[namespace] = self._build(namespace)
            self._wanted.put_nowait(namespace)
        return found

    def get(self, namespace: str) -> RemoteNamespace | None:
        """The caches of `namespace` if it is mapped."""
        return self._namespaces.get(namespace)

    def values(self) -> Iterable[RemoteNamespace]:
        """All namespaces with caches."""
        return list(self._namespaces.values())

    def drop(self, namespace: str) -> None:
        """Stop watching `namespace`: it was removed at the provider."""
        self._namespaces.pop(namespace, None)
        task = self._tasks.pop(namespace, None)
        if task is not None:
            task.cancel()

    async def run(self) -> None:
        """Start reflectors as namespaces are wanted; ends only by cancellation or a programming error."""
        async with asyncio.TaskGroup() as group:
            while True:
                namespace = await self._wanted.get()
                caches = self._namespaces.get(namespace)
                if caches is not None and namespace not in self._tasks:
                    self._tasks[namespace] = group.create_task(self._run_one(caches), name=f"caches/{namespace}")

    async def _run_one(self, caches: RemoteNamespace) -> None:
        log.info("watching provider namespace", namespace=caches.name)
        async with asyncio.TaskGroup() as group:
            for reflector in (*caches.needed, caches.events):
                group.create_task(reflector.run(), name=f"reflector/{caches.name}")
            for needed in caches.needed:
                await needed.synced.wait()
            self._listeners.synced(caches.name)

    def _build(self, namespace: str) -> RemoteNamespace:
        listeners = self._listeners
        pods = self._own(PODS, namespace, listeners.pod)
        return RemoteNamespace(
            name=namespace,
            remotes=pods if self._remotes is PODS else self._own(self._remotes, namespace, listeners.remote),
            pods=pods,
            config_maps=Reflector(
                self._client,
                CONFIG_MAPS,
                decode=ConfigMap,
                namespace=namespace,
                label_selector=self._consumer_selector,
                on_change=lambda change: listeners.config_map(namespace, change),
                registry=self._registry,
                timing=self._timing,
            ),
            secrets=Reflector(
                self._client,
                SECRETS,
                decode=Secret,
                namespace=namespace,
                label_selector=self._consumer_selector,
                on_change=lambda change: listeners.secret(namespace, change),
                registry=self._registry,
                timing=self._timing,
            ),
            events=Reflector(
                self._client,
                EVENTS,
                decode=Event,
                namespace=namespace,
                field_selector="involvedObject.kind=Pod",
                kept=_bare,
                on_change=lambda change: listeners.event(namespace, change),
                registry=self._registry,
                timing=self._timing,
            ),
        )

    def _own(
        self, resource: Resource, namespace: str, listener: Callable[[str, Change[Object]], None]
    ) -> Reflector[Object]:
        """What this virtual node made of a kind."""
        return Reflector(
            self._client,
            resource,
            decode=Object,
            namespace=namespace,
            label_selector=self._node_selector,
            on_change=lambda change: listener(namespace, change),
            registry=self._registry,
            timing=self._timing,
        )


def _bare(event: Event) -> Event:
    """An event is told as it comes, and then only known: 3 of them a pod would outweigh the pod."""
    full = event.metadata
    return Event(
        metadata=Metadata(
            name=full.name, namespace=full.namespace, uid=full.uid, resource_version=full.resource_version
        )
    )
