"""Logs and exec through the virtual node, next to kubectl straight at the provider. Needs a real kubelet."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from deploy import stack
from deploy.lab.lab import Lab
from deploy.lab.process import wait_until
from tests import manifests
from tests.bench.report import Report, progress
from tests.bench.settings import BenchSettings
from tests.bench.world import CONSUMER_ID
from tests.kubectl import Kubectl, ready

_LOG_BYTES = 8_000_000
"""Less than what a kubelet keeps in one file (containerLogMaxSize, 10 MiB)."""
_TIMEOUT = 300.0
_POD = "stream"


@dataclass(frozen=True, slots=True)
class Route:
    """A way to the same container."""

    name: str
    kubectl: Kubectl


def run(lab: Lab, settings: BenchSettings, report: Report) -> None:
    """Rounds of every kind of stream, direct and through the virtual node in turn."""
    stack.grant(lab.provider, consumer_id=CONSUMER_ID)
    node = stack.start(lab, consumer_id=CONSUMER_ID, log_level="warning")
    try:
        node.wait_ready()
        node.wait_serving()
        routes = _routes(lab)
        _start_pod(routes[1].kubectl)
        _measure(routes, settings, report)
    finally:
        node.unit.stop()


def _routes(lab: Lab) -> tuple[Route, Route]:
    clusters = {"direct": (lab.provider, f"default-{CONSUMER_ID}"), "isthmus": (lab.consumer, "default")}
    direct, isthmus = (
        Route(name, Kubectl(cluster.plan.binaries / "kubectl", cluster.admin_kubeconfig, namespace=namespace))
        for name, (cluster, namespace) in clusters.items()
    )
    return direct, isthmus


def _start_pod(kubectl: Kubectl) -> None:
    script = f"yes {'x' * 199} | head -c {_LOG_BYTES}; sleep 86400"
    kubectl.create(manifests.pod(_POD, manifests.shell("main", script)))
    kubectl.wait_for("pod", _POD, ready)
    # The whole log is there: kubectl gets as much as the container wrote.
    wait_until(lambda: _received(kubectl, "logs", _POD) >= _LOG_BYTES, what="the log", timeout=60, every=1.0)


def _measure(routes: tuple[Route, Route], settings: BenchSettings, report: Report) -> None:
    size = settings.megabytes * 1_000_000
    kinds: dict[str, tuple[int, Callable[[Kubectl], int]]] = {
        "logs": (_LOG_BYTES, lambda kubectl: _received(kubectl, "logs", _POD)),
        "exec, output": (
            size,
            lambda kubectl: _received(kubectl, "exec", _POD, "--", "head", "-c", str(size), "/dev/zero"),
        ),
        "exec, input": (size, lambda kubectl: _sent(kubectl, size)),
    }
    for kind, (expected, act) in kinds.items():
        found: dict[str, list[float]] = {route.name: [] for route in routes}
        for _ in range(settings.rounds):
            for route in routes:
                began = time.monotonic()
                moved = act(route.kubectl)
                found[route.name].append(expected / 1e6 / (time.monotonic() - began))
                if moved != expected:
                    raise RuntimeError(f"{kind}, {route.name}: {moved} bytes instead of {expected}")
        report.keep("streams", {"kind": kind, "bytes": expected, "megabytes_per_second": found})
        report.add(f"{kind}, MB/s", found["direct"], found["isthmus"], digits=1)
        progress(f"streams: {kind} measured")


def _received(kubectl: Kubectl, *arguments: str) -> int:
    return len(kubectl.result(*arguments, timeout=_TIMEOUT).stdout)


def _sent(kubectl: Kubectl, size: int) -> int:
    """Bytes that the container says it got."""
    command = ("exec", "-i", _POD, "--", "sh", "-c", "cat | wc -c")
    with kubectl.popen(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        out, _ = process.communicate(bytes(size), timeout=_TIMEOUT)
    return int(json.loads(out or b"0"))
