"""What several tunnels between the gateways are good for: isthmus's path with one and with four, in turns."""

from __future__ import annotations

from tests.bench.report import Report, progress
from tests.bench.settings import BenchSettings
from tests.bench.ways import Way
from tests.lab.fabric import parallel
from tests.lab.fabric.world import World

TUNNELS = (1, 4)
STREAMS = 16
"""Each stays on one tunnel; with so many it is unlikely that one of four has none."""


def run(world: World, way: Way, settings: BenchSettings, report: Report) -> None:
    """Streams at once from pod to pod; `world` has one tunnel before and after."""
    gbit: dict[int, list[float]] = {count: [] for count in TUNNELS}
    cpu: dict[int, list[float]] = {count: [] for count in TUNNELS}
    try:
        for number in range(settings.rounds):
            for count in TUNNELS:
                parallel.apply(world, count)
                found = way.measure("bulk", settings.fabric_seconds, STREAMS)
                report.keep("fabric tunnels", {"tunnels": count, **found})
                gbit[count].append(found["bits"] / 1e9 / found["seconds"])
                cpu[count].append(found["busy"] / (found["bits"] / 1e9))
            each = ", ".join(f"{count} {gbit[count][-1]:.2f}" for count in TUNNELS)
            progress(f"fabric, tunnels, round {number + 1}: Gbit/s {each}")
    finally:
        parallel.apply(world, 1)
    one, several = TUNNELS
    title = f"{STREAMS} TCP streams by {several} tunnels"
    report.add(f"{title}, Gbit/s; direct: one tunnel", gbit[one], gbit[several], digits=3)
    report.add(f"{title}, CPU of the machine, s per Gbit; direct: one tunnel", cpu[one], cpu[several], digits=2)
