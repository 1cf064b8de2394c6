"""A restart with many pods there: how soon it does what has to be done, and what it writes needlessly."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from kube.client import Client
from tests.bench.pods import Sight, watching
from tests.bench.report import Report, progress
from tests.bench.settings import BenchSettings
from tests.bench.world import World, held

_CHANGED = 10
_QUIET = 10.0
_DOWN = 3.0


async def run(world: World, settings: BenchSettings, report: Report) -> None:
    """Rounds of two restarts: one where nothing happened meanwhile, one where pods came and went."""
    needless: list[int] = []
    times: dict[str, list[float]] = {"first": [], "last": [], "ready": []}
    async with held(world, settings.pods) as names:
        for number in range(settings.rounds):
            writes = await _unchanged(world)
            needless.append(sum(writes.values()))
            found = await _changed(world, names[number * _CHANGED : (number + 1) * _CHANGED], f"restart-{number}")
            for key, value in found.items():
                times[key].append(value)
            report.keep("restart", {"pods": settings.pods, "needless": dict(writes), **found})
            took = f"first action {found['first']:.2f} s, last {found['last']:.2f} s"
            progress(f"restart, round {number + 1}: {took}, needless writes {sum(writes.values())}")
    title = f"restart, {settings.pods} pods:"
    report.add(f"{title} writes in {_QUIET:.0f} s when nothing changed", [], needless, digits=0)
    report.add(f"{title} start to first correct action, s", [], times["first"])
    report.add(f"{title} ... all {2 * _CHANGED} changes at the provider, s", [], times["last"])
    report.add(f"{title} ... new pods Ready at the consumer, s", [], times["ready"])


async def _unchanged(world: World) -> Counter[str]:
    """All writes about pods of a process that finds everything in step."""
    unit = world.node.unit
    unit.stop()
    unit.start()
    await asyncio.to_thread(world.node.wait_ready)
    await asyncio.sleep(_QUIET)
    found: Counter[str] = Counter()
    for cluster, requests in (await world.meter.own()).items():
        for key, count in requests.items():
            if world.meter.is_write(key):
                found[f"{cluster}: {key}"] += count
    return found


async def _changed(world: World, gone: list[str], prefix: str) -> dict[str, float]:
    """Seconds from the process's start to its first and last act at the provider, and until new pods are Ready."""
    side, unit = world.isthmus, world.node.unit
    made = [f"{prefix}-{number}" for number in range(_CHANGED)]
    provider: Client = world.clients["provider"]
    async with watching(side.client, side.namespace) as here, watching(provider, world.remote_namespace) as there:
        unit.stop()
        await side.delete(gone, grace=0)
        await side.create(made)
        await asyncio.sleep(_DOWN)
        began = time.monotonic()
        unit.start()
        ready = await here.all_ready(made)
        acts = await _acts(there, made, gone)
        await world.meter.settled(quiet=4.0)  # gathered events are told: the next restart has nothing left to do
    return {"first": min(acts) - began, "last": max(acts) - began, "ready": ready - began}


async def _acts(there: Sight, made: list[str], gone: list[str]) -> list[float]:
    await there.until(lambda: set(made) <= there.appeared.keys(), what="new pods at the provider")
    await there.until(lambda: set(gone) <= there.leaving.keys(), what="deletions at the provider")
    return [*(there.appeared[name] for name in made), *(there.leaving[name] for name in gone)]
