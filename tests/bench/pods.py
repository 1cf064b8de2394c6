"""Many pods at once: made, seen to become Ready by a watch, deleted, seen to go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from kube import watch
from kube.client import Client
from kube.errors import ApiError
from kube.objects import Metadata
from kube.resources import PODS


class Condition(msgspec.Struct):
    """A pod's condition, as far as it is looked at."""

    type: str
    status: str


class Status(msgspec.Struct):
    """A pod's status, as far as it is looked at."""

    conditions: list[Condition] = []
    message: str = ""


class Pod(msgspec.Struct):
    """A pod, as far as it is looked at."""

    metadata: Metadata
    status: Status = msgspec.field(default_factory=Status)

    @property
    def ready(self) -> bool:
        """Whether its Ready condition is true."""
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions)


@dataclass(slots=True)
class Side:
    """Where pods are made and looked at: at the provider itself, or at the consumer for a virtual node."""

    name: str
    client: Client
    namespace: str
    nodes: Sequence[str]
    """The nodes that pods name in turn; none leaves it to the scheduler."""
    concurrency: int = 32

    def manifest(self, name: str, number: int = 0) -> dict[str, Any]:
        """A small pod."""
        container = {"name": "main", "image": "isthmus.dev/lab/agnhost:latest", "imagePullPolicy": "IfNotPresent"}
        spec: dict[str, Any] = {"containers": [container]}
        if self.nodes:
            spec["nodeName"] = self.nodes[number % len(self.nodes)]
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "bench"}}, "spec": spec}

    async def create(self, names: Sequence[str]) -> None:
        """Make these pods, some at once."""
        numbers = {name: number for number, name in enumerate(names)}

        async def one(name: str) -> None:
            body = msgspec.json.encode(self.manifest(name, numbers[name]))
            await self.client.create(PODS, body, namespace=self.namespace, decode=Pod)

        await self._each(names, one)

    async def delete(self, names: Sequence[str], *, grace: int | None = None) -> None:
        """Delete these pods with their own grace period, or with `grace` seconds."""

        async def one(name: str) -> None:
            try:
                await self.client.delete(PODS, name=name, namespace=self.namespace, grace_period_seconds=grace)
            except ApiError as error:
                if not error.not_found:
                    raise

        await self._each(names, one)

    async def _each(self, names: Iterable[str], act: Callable[[str], Awaitable[None]]) -> None:
        waiting = iter(names)

        async def work() -> None:
            for name in waiting:
                await act(name)

        async with asyncio.TaskGroup() as group:
            for _ in range(self.concurrency):
                group.create_task(work())


@dataclass(slots=True)
class Sight:
    """What a watch of one namespace's pods has shown; times by time.monotonic()."""

    present: dict[str, Pod] = field(default_factory=dict)
    appeared: dict[str, float] = field(default_factory=dict)
    ready: dict[str, float] = field(default_factory=dict)
    leaving: dict[str, float] = field(default_factory=dict)
    gone: dict[str, float] = field(default_factory=dict)
    listeners: list[Callable[[Pod, float], None]] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, kind: str, pod: Pod) -> None:
        """Note one watch event."""
        now, name = time.monotonic(), pod.metadata.name
        if kind == watch.DELETED:
            self.present.pop(name, None)
            self.leaving.setdefault(name, now)
            self.gone[name] = now
        else:
            self.present[name] = pod
            self.appeared.setdefault(name, now)
            if pod.metadata.deletion_timestamp:
                self.leaving.setdefault(name, now)
            if pod.ready:
                self.ready.setdefault(name, now)
        for listener in self.listeners:
            listener(pod, now)
        self._changed.set()

    async def until(self, condition: Callable[[], bool], *, what: str, timeout: float = 600.0) -> None:
        """Wait for something to be seen. TimeoutError, saying what, when it is not."""
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"waited {timeout:.0f} s for {what}") from None

    async def all_ready(self, names: Sequence[str]) -> float:
        """When the last of these was seen Ready."""
        wanted = set(names)
        await self.until(lambda: wanted <= self.ready.keys(), what=f"{len(names)} pods to be Ready")
        return max(self.ready[name] for name in names)

    async def all_gone(self, names: Sequence[str]) -> float:
        """When the last of these was seen to go."""
        wanted = set(names)
        await self.until(lambda: wanted <= self.gone.keys(), what=f"{len(names)} pods to go")
        return max(self.gone[name] for name in names)


@asynccontextmanager
async def watching(client: Client, namespace: str) -> AsyncIterator[Sight]:
    """Watch the pods of a namespace during the block."""
    sight = Sight()
    listing = await client.list(PODS, namespace=namespace, decode=Pod)
    for pod in listing.items:
        sight.take(watch.ADDED, pod)
    task = asyncio.create_task(_watch(client, namespace, listing.resource_version, sight), name=f"watch/{namespace}")
    try:
        yield sight
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _watch(client: Client, namespace: str, version: str, sight: Sight) -> None:
    while True:
        events = watch.watch(client, PODS, decode=Pod, resource_version=version, namespace=namespace)
        async with aclosing(events):
            async for event in events:
                version = event.object.metadata.resource_version
                if event.type != watch.BOOKMARK:
                    sight.take(event.type, event.object)
