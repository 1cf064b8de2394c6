"""`python -m tests.bench`: measure, print the table, keep the raw data, leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from types import FrameType

from deploy.lab.lab import Lab
from deploy.lab.settings import LabSettings
from tests.bench import (
    burst,
    fabric,
    fabric_guest,
    fleet,
    flood,
    idle,
    kinds,
    labs,
    latency,
    peers,
    restart,
    streams,
    world,
)
from tests.bench.report import Report, progress
from tests.bench.settings import BenchSettings, SettingsError
from tests.bench.world import World

Part = Callable[[World, BenchSettings, Report], Awaitable[None]]
_FAKE: dict[str, Part] = {"burst": burst.run, "latency": latency.run, "idle": idle.run, "restart": restart.run}
_FAKE |= {"kinds": kinds.run, "fleet": fleet.run}


def main() -> int:
    """Run the parts that were asked for; the table also holds what was measured before a failure."""
    try:
        settings = BenchSettings.from_env(os.environ)
    except SettingsError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2
    signal.signal(signal.SIGTERM, _interrupt)
    report = Report()
    try:
        _measure(settings, report)
    except KeyboardInterrupt:
        progress("interrupted")
        return 130
    finally:
        if report.rows:
            sys.stdout.write(report.table())
        if report.raw:
            progress(f"raw data: {report.save(asdict(settings))}")
    return 0


def _measure(settings: BenchSettings, report: Report) -> None:
    if set(settings.parts) & _FAKE.keys():
        most = max(*settings.counts, settings.pods)
        kwok = -(-2 * most // world.PODS_PER_NODE) + 2
        progress("a lab with fake nodes comes up")
        with labs.temporary(LabSettings(nodes=0, kwok=kwok)) as lab:
            asyncio.run(_with_fake_nodes(lab, settings, report))
    if {"peers", "flood"} & set(settings.parts):
        progress("a lab for peers comes up")
        with labs.temporary(LabSettings(nodes=0, kwok=1), number=2) as lab, peers.manager(lab) as manager:
            if "peers" in settings.parts:
                asyncio.run(peers.run(lab, manager, settings, report))
            if "flood" in settings.parts:
                progress("part flood")
                asyncio.run(flood.run(lab, settings, report))
    if "streams" in settings.parts:
        progress("a lab with real nodes comes up")
        with labs.temporary(LabSettings(nodes=1), number=1) as lab:
            streams.run(lab, settings, report)
    if "fabric" in settings.parts:
        fabric.run(settings, report)
    for part in fabric_guest.MACHINES:
        if part in settings.parts:
            fabric_guest.run(part, settings, report)


async def _with_fake_nodes(lab: Lab, settings: BenchSettings, report: Report) -> None:
    async with world.opened(lab, concurrency=settings.concurrency) as made:
        for name in settings.parts:
            if name in _FAKE:
                progress(f"part {name}")
                await _FAKE[name](made, settings, report)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
