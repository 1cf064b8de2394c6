"""A status change at the provider: how long until a watch at the consumer shows it."""

from __future__ import annotations

import asyncio
import time

from kube.client import Client, PatchType
from kube.resources import PODS
from tests.bench.pods import Pod, watching
from tests.bench.report import Report, progress
from tests.bench.settings import BenchSettings
from tests.bench.world import World, held

_TIMEOUT = 30.0


async def run(world: World, settings: BenchSettings, report: Report) -> None:
    """Status changes one by one, with many pods there; directly is from patch to watch in the same cluster."""
    async with held(world, settings.pods) as names:
        remote = world.remote_namespace
        pairs = {"direct": (world.clients["provider"], remote), "isthmus": (world.clients["consumer"], "bench")}
        found: dict[str, list[float]] = {}
        for side, (client, namespace) in pairs.items():
            marks = [f"{side}-{number}" for number in range(settings.samples)]
            found[side] = [
                await _sample(world.clients["provider"], remote, name, mark, watched=(client, namespace))
                for name, mark in zip(names, marks, strict=False)
            ]
        report.keep("latency", {"milliseconds": found, "pods": settings.pods})
        progress(f"latency: {settings.samples} status changes timed")
        report.add("status change to watch event, ms", found["direct"], found["isthmus"], digits=1)
        report.add("... slowest, ms", [max(found["direct"])], [max(found["isthmus"])], digits=1)


async def _sample(provider: Client, remote: str, name: str, mark: str, *, watched: tuple[Client, str]) -> float:
    """Milliseconds until the mark is seen; the pod's message is the mark."""
    seen = asyncio.get_running_loop().create_future()

    def look(pod: Pod, at: float) -> None:
        if pod.metadata.name == name and pod.status.message == mark and not seen.done():
            seen.set_result(at)

    async with watching(*watched) as sight:
        await asyncio.sleep(0.2)  # the watch opens, and the system is at rest
        sight.listeners.append(look)
        began = time.monotonic()
        body = {"status": {"message": mark}}
        await provider.patch(
            PODS, body, name=name, namespace=remote, subresource="status", kind=PatchType.STRATEGIC, decode=Pod
        )
        async with asyncio.timeout(_TIMEOUT):
            at: float = await seen
    return (at - began) * 1000
