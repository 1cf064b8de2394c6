"""One remapped address at a gateway, and ten thousand: what a packet to one of them costs."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests import firewalls
from tests.bench import processes, ways
from tests.bench.changes import percentile
from tests.bench.report import Report, progress
from tests.bench.settings import BenchSettings
from tests.bench.ways import Way
from tests.lab.fabric.places import Place
from tests.lab.fabric.scale import exporting, listed
from tests.lab.fabric.world import SEEN, AgentProcess, World

_QUIET_SECONDS = 10.0


def run(world: World, settings: BenchSettings, report: Report) -> None:
    """The east asks a pod of the west by an exported address, while it is the only one and while it is one of many."""
    agent = world.west.gateway_agent
    address = SEEN["east"][0].replace("0.0/16", "64.0")
    way = Way("addresses", world.east.pod, world.west.pod, address)
    counts = (1, settings.addresses)
    measured: dict[int, dict[str, list[float]]] = {count: {} for count in counts}
    with ways.serving(world.west.pod):
        for _ in range(settings.rounds):
            for count in counts:
                began = time.monotonic()
                agent.apply(exporting(world, count))
                values = {"apply": time.monotonic() - began, **_table(agent.place), "rest": _at_rest(agent)}
                with _frozen(agent):
                    values |= _packets(way, settings)
                report.keep("fabric addresses", {"addresses": count, **values})
                for key, value in values.items():
                    measured[count].setdefault(key, []).append(value)
            progress(f"fabric: {counts[0]} and {counts[1]} addresses measured")
    agent.apply(world.gateway_state(world.west))
    _rows(report, measured, counts)


@contextmanager
def _frozen(agent: AgentProcess) -> Iterator[None]:
    """What a packet costs is the kernel's: the agent, which looks after the table meanwhile, is another figure."""
    assert agent.process is not None
    agent.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        agent.process.send_signal(signal.SIGCONT)


def _at_rest(agent: AgentProcess) -> float:
    """Percent of a core that the agent takes, with the programs that it runs."""
    assert agent.process is not None
    before = processes.cpu_seconds(agent.process.pid)
    time.sleep(_QUIET_SECONDS)
    return (processes.cpu_seconds(agent.process.pid) - before) / _QUIET_SECONDS * 100


def _packets(way: Way, settings: BenchSettings) -> dict[str, float]:
    stream: dict[str, Any] = way.measure("bulk", settings.fabric_seconds)
    flows: list[float] = way.measure("flows", settings.exchanges)
    within: list[float] = way.measure("ask", settings.exchanges)
    return {
        "gbit": stream["bits"] / 1e9 / stream["seconds"],
        "p50": statistics.median(within) * 1e6,
        "new": statistics.median(flows) * 1e6,
        "new99": percentile(flows, 0.99) * 1e6,
    }


def _table(place: Place) -> dict[str, float]:
    items = listed(place)
    return {"rules": firewalls.rules(items), "elements": firewalls.elements(items)}


def _rows(report: Report, measured: dict[int, dict[str, list[float]]], counts: tuple[int, int]) -> None:
    title = f"{counts[1]} remapped addresses; direct: 1"
    rows = (
        ("gbit", "TCP, Gbit/s", 3),
        ("p50", "request and response, median, us", 0),
        ("new", "the first packet of a flow and its answer, median, us", 0),
        ("new99", "the first packet of a flow and its answer, p99, us", 0),
        ("apply", "the gateway's Apply, s", 2),
        ("rest", "its agent's CPU at rest, % of a core", 1),
        ("rules", "nft rules", 0),
        ("elements", "elements of nft sets and maps", 0),
    )
    for key, what, digits in rows:
        report.add(f"{title}: {what}", *(measured[count][key] for count in counts), digits=digits)
