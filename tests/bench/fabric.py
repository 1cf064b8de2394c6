"""The fabric: isthmus's path from pod to pod next to bare tunnels and a cable, and what peers and addresses cost.

No clusters: network namespaces, the agents as programs in them, and the states that a controller would send.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from deploy.lab import packages
from tests.bench import fabric_addresses, fabric_parallel, fabric_scale, ways
from tests.bench.changes import percentile
from tests.bench.report import Report, progress
from tests.bench.settings import BenchSettings
from tests.bench.ways import Way
from tests.lab.fabric.world import connected

Measured = dict[str, dict[str, list[float]]]
"""By way and by what was measured: one value of each round."""

_TITLES = {
    "wireguard": "a bare WireGuard tunnel",
    "hops": "the same with bare overlay hops",
    "veth": "plain veth",
}
_ROWS = (
    ("gbit", "TCP, Gbit/s", 3),
    ("cpu", "CPU of the machine, s per Gbit", 2),
    ("p50", "request and response, median, us", 0),
    ("p99", "request and response, p99, us", 0),
)


def run(settings: BenchSettings, report: Report) -> None:
    """All of it, one after the other."""
    packages.ensure_fabric()
    with connected() as world:
        with ways.opened(world) as found:
            paths(found, settings, report)
            fabric_parallel.run(world, found[-1], settings, report)
        fabric_addresses.run(world, settings, report)
    fabric_scale.run(settings, report)


def paths(found: Sequence[Way], settings: BenchSettings, report: Report) -> None:
    """Rounds of every way, in turn; then tables of isthmus's next to each of the others."""
    for way in found:
        way.measure("bulk", 1)  # handshakes, neighbours and the way's MTU are not what is measured
    measured: Measured = {way.name: {} for way in found}
    for number in range(settings.rounds):
        for way in found:
            for key, value in _round(way, settings, report).items():
                measured[way.name].setdefault(key, []).append(value)
        each = ", ".join(f"{way.name} {measured[way.name]['gbit'][-1]:.2f}" for way in found)
        progress(f"fabric, round {number + 1}: Gbit/s {each}")
    for other, title in _TITLES.items():
        for key, what, digits in _ROWS:
            report.add(f"{what}; direct: {title}", measured[other][key], measured["isthmus"][key], digits=digits)
    sizes = {way.name: {"packet": way.measure("largest")} for way in found}
    report.keep("fabric sizes", sizes)
    for other, title in _TITLES.items():
        for key, what in (("packet", "largest packet in one piece"),):
            report.add(f"{what}, bytes; direct: {title}", [sizes[other][key]], [sizes["isthmus"][key]], digits=0)
        segments = measured[other]["segment"][-1:], measured["isthmus"]["segment"][-1:]
        report.add(f"TCP payload of a packet, bytes; direct: {title}", *segments, digits=0)


def _round(way: Way, settings: BenchSettings, report: Report) -> dict[str, float]:
    stream: dict[str, Any] = way.measure("bulk", settings.fabric_seconds)
    seconds: list[float] = way.measure("ask", settings.exchanges)
    values = {
        "gbit": stream["bits"] / 1e9 / stream["seconds"],
        "cpu": stream["busy"] / (stream["bits"] / 1e9),
        "p50": statistics.median(seconds) * 1e6,
        "p99": percentile(seconds, 0.99) * 1e6,
        "segment": stream["segment"],
    }
    report.keep("fabric", {"way": way.name, "stream": stream, **values})
    return values
