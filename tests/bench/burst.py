"""Many pods at once, made directly and through the virtual node in turn: time, requests, CPU, memory."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from tests.bench import processes
from tests.bench.counters import Counts
from tests.bench.pods import Side, watching
from tests.bench.report import Report, progress
from tests.bench.settings import BenchSettings
from tests.bench.world import World

_SERVERS = (("API server", "kube-apiserver"), ("etcd", "etcd"))


@dataclass(frozen=True, slots=True)
class Burst:
    """One burst's life, from the first create until all is gone and quiet."""

    pods: int
    ready_seconds: float
    gone_seconds: float
    peak_bytes: int
    life: Counts
    reconciles: Counter[str]

    def cpu(self, program: str) -> float:
        """Milliseconds of CPU per pod."""
        return self.life.cpu[program] / self.pods

    def per_pod(self, requests: Counter[str] | int) -> float:
        """Requests per pod."""
        return (requests if isinstance(requests, int) else sum(requests.values())) / self.pods

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "pods": self.pods,
            "ready_seconds": self.ready_seconds,
            "gone_seconds": self.gone_seconds,
            "peak_bytes": self.peak_bytes,
            "life": self.life.as_json(),
            "reconciles": dict(self.reconciles),
        }


async def run(world: World, settings: BenchSettings, report: Report) -> None:
    """All rounds of all counts."""
    for count in settings.counts:
        found: dict[str, list[Burst]] = {"direct": [], "bound": [], "isthmus": []}
        for number in range(settings.rounds):
            for side in (world.direct, world.bound, world.isthmus):
                burst = await _measure(world, side, count, prefix=f"n{count}-r{number}")
                found[side.name].append(burst)
                report.keep("burst", {"side": side.name, "round": number, **burst.as_json()})
                took = f"Ready {burst.ready_seconds:.2f} s, gone {burst.gone_seconds:.2f} s"
                progress(f"burst {count}, round {number + 1}, {side.name}: {took}")
        _rows(report, count, found["direct"], found["isthmus"])
        _bound_rows(report, count, found["bound"])


async def _measure(world: World, side: Side, count: int, *, prefix: str) -> Burst:
    names = [f"{prefix}-{number}" for number in range(count)]
    pid = world.node.unit.pid or 0
    processes.reset_peak(pid)
    async with watching(side.client, side.namespace) as sight:
        reconciles = await world.meter.reconciles()
        before = await world.meter.before()
        began = time.monotonic()
        await side.create(names)
        ready = await sight.all_ready(names) - began
        await world.meter.settled(quiet=3.0)
        began = time.monotonic()
        await side.delete(names)
        gone = await sight.all_gone(names) - began
        await world.meter.settled(quiet=2.0)
        after = await world.meter.after()
    reconciles = await world.meter.reconciles() - reconciles
    return Burst(count, ready, gone, processes.peak_bytes(pid), after.since(before), reconciles)


def _rows(report: Report, count: int, direct: list[Burst], isthmus: list[Burst]) -> None:
    title = f"N={count}:"
    report.add(
        f"{title} first create to last Ready, s", _each(direct, "ready_seconds"), _each(isthmus, "ready_seconds")
    )
    report.add(f"{title} pods/s", [count / b.ready_seconds for b in direct], [count / b.ready_seconds for b in isthmus])
    report.add(f"{title} delete, s", _each(direct, "gone_seconds"), _each(isthmus, "gone_seconds"))
    for cluster in ("consumer", "provider"):
        report.add(
            f"{title} requests a pod, {cluster}",
            [b.per_pod(b.life.requests(cluster)) for b in direct],
            [b.per_pod(b.life.requests(cluster)) for b in isthmus],
        )
        for words, program in _SERVERS:
            unit = f"{cluster}/{program}"
            report.add(
                f"{title} {cluster} {words} CPU, ms a pod",
                [b.cpu(unit) for b in direct],
                [b.cpu(unit) for b in isthmus],
            )
    _own_rows(report, title, isthmus)


def _bound_rows(report: Report, count: int, bound: list[Burst]) -> None:
    """What the provider's scheduler adds to a direct pod is the difference to these."""
    title = f"N={count}: direct, named node:"
    report.add(f"{title} first create to last Ready, s", _each(bound, "ready_seconds"), [])
    report.add(f"{title} API server CPU, ms a pod", [b.cpu("provider/kube-apiserver") for b in bound], [])


def _own_rows(report: Report, title: str, isthmus: list[Burst]) -> None:
    keys = sorted({(c, key) for b in isthmus for c in b.life.own for key in b.life.own[c]})
    for cluster, key in keys:
        values = [b.life.own[cluster][key] / b.pods for b in isthmus]
        if max(values) >= 0.01:
            report.add(f"{title} own requests a pod, {cluster}, {key}", [], values)
    report.add(f"{title} own reconciles a pod", [], [b.per_pod(b.reconciles) for b in isthmus])
    report.add(f"{title} own CPU, ms a pod", [], [b.cpu("virtual-kubelet") for b in isthmus])
    report.add(f"{title} own peak memory, MB", [], [b.peak_bytes / 1e6 for b in isthmus], digits=0)


def _each(bursts: list[Burst], field: str) -> list[float]:
    return [getattr(burst, field) for burst in bursts]
