"""A virtual node with many pods and nothing to do: requests, CPU, memory."""

from __future__ import annotations

import asyncio

from tests.bench import processes
from tests.bench.counters import Counts
from tests.bench.report import Report, progress
from tests.bench.settings import BenchSettings
from tests.bench.world import World, held


async def run(world: World, settings: BenchSettings, report: Report) -> None:
    """Memory of a process without pods and of one that found them at its start, then a quiet while."""
    unit = world.node.unit
    await _restart(world)
    base = processes.resident_bytes(unit.pid or 0)
    async with held(world, settings.pods):
        grown = processes.resident_bytes(unit.pid or 0)
        await _restart(world)
        full = processes.resident_bytes(unit.pid or 0)
        progress(f"idle: watching for {settings.idle_seconds:.0f} s")
        before = await world.meter.before(upkeep=True)
        await asyncio.sleep(settings.idle_seconds)
        spent = (await world.meter.after(upkeep=True)).since(before)
    _rows(report, settings, spent, base=base, full=full)
    values = {"pods": settings.pods, "base_bytes": base, "grown_bytes": grown, "full_bytes": full}
    report.keep("idle", {**values, "seconds": settings.idle_seconds, "spent": spent.as_json()})


def _rows(report: Report, settings: BenchSettings, spent: Counts, *, base: int, full: int) -> None:
    title, minutes = f"idle, {settings.pods} pods:", settings.idle_seconds / 60
    for cluster, requests in sorted(spent.own.items()):
        report.add(f"{title} requests a minute, {cluster}", [], [sum(requests.values()) / minutes], digits=0)
    report.add(f"{title} own CPU, s a minute", [], [spent.cpu["virtual-kubelet"] / 1000 / minutes])
    report.add("memory without pods, MB", [], [base / 1e6], digits=0)
    report.add("memory per pod, kB", [], [(full - base) / settings.pods / 1e3], digits=1)


async def _restart(world: World) -> None:
    world.node.unit.restart()
    await asyncio.to_thread(world.node.wait_ready)
    await asyncio.to_thread(world.node.wait_serving)
    await world.meter.settled(quiet=3.0)
