"""Changes of objects and when watches show them: marks in an annotation or label, counted up."""

from __future__ import annotations

import asyncio
import math
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from kube import watch
from kube.client import Client
from kube.objects import WithMetadata
from kube.resources import Resource

MARK = "bench.example.org/mark"


@dataclass(slots=True)
class Marks:
    """What a watch of one kind in one namespace has shown; times by time.monotonic()."""

    names: set[str] = field(default_factory=set)
    shown: dict[str, list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))
    events: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, kind: str, found: WithMetadata) -> None:
        """Note one watch event."""
        name, now = found.metadata.name, time.monotonic()
        if kind == watch.DELETED:
            self.names.discard(name)
        else:
            self.names.add(name)
            mark = found.metadata.annotations.get(MARK) or found.metadata.labels.get(MARK, "")
            if mark.isdigit():
                self.shown[name].append((int(mark), now))
        self.events += 1
        self._changed.set()

    def when(self, name: str, mark: int) -> float | None:
        """When this mark of an object, or a later one that overtook it, was first shown."""
        found = self.shown[name]
        place = bisect_left(found, (mark, 0.0))
        return found[place][1] if place < len(found) else None

    async def until(self, condition: Callable[[], bool], *, what: str, timeout: float = 120.0) -> None:
        """Wait for something to be seen. TimeoutError, saying what, when it is not."""
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"waited {timeout:.0f} s for {what}") from None


@asynccontextmanager
async def watching(client: Client, resource: Resource, namespace: str) -> AsyncIterator[Marks]:
    """Watch a kind in a namespace during the block."""
    marks = Marks()
    listing = await client.list(resource, namespace=namespace, decode=WithMetadata)
    for item in listing.items:
        marks.take(watch.ADDED, item)
    work = _watch(client, resource, namespace, listing.resource_version, marks)
    task = asyncio.create_task(work, name=f"watch/{resource.plural}")
    try:
        yield marks
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _watch(client: Client, resource: Resource, namespace: str, version: str, marks: Marks) -> None:
    while True:
        events = watch.watch(client, resource, decode=WithMetadata, resource_version=version, namespace=namespace)
        async with aclosing(events):
            async for event in events:
                version = event.object.metadata.resource_version
                if event.type != watch.BOOKMARK:
                    marks.take(event.type, event.object)


def percentile(values: list[float], share: float) -> float:
    """The smallest value that is not exceeded by this share of all (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]
