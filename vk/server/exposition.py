"""A usage snapshot in the two forms a kubelet gives: Prometheus text and stats.k8s.io/v1alpha1; pure.

Names, help texts and order as in pkg/kubelet/metrics/collectors/resource_metrics.go; labels in the order container,
pod, namespace, on whose second place the virtual-kubelet conformance suite relies.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from typing import Any

from vk.server.usage import ContainerUsage, PodUsage, Snapshot

Sample = tuple[str, float, bool]
"""Labels, value, and whether the time of the measurement is stated."""


def resource_metrics(snapshot: Snapshot) -> bytes:
    """/metrics/resource: text format 0.0.4 with explicit times. After a failed poll only what could be had."""
    stamp = int(snapshot.at * 1000)
    lines: list[str] = []
    for name, kind, text, samples in _families(snapshot):
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        lines += [f"{name}{labels} {value!r}" + (f" {stamp}" if timed else "") for labels, value, timed in samples]
    return ("\n".join(lines) + "\n").encode()


def _families(snapshot: Snapshot) -> Iterator[tuple[str, str, str, list[Sample]]]:
    yield (
        "container_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
        _containers(snapshot, lambda c: c.cpu_seconds),
    )
    yield (
        "container_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the container in bytes",
        _containers(snapshot, lambda c: float(c.memory_bytes)),
    )
    yield (
        "container_start_time_seconds",
        "gauge",
        "[STABLE] Start time of the container since unix epoch in seconds",
        _containers(snapshot, lambda c: c.started_at, timed=False),
    )
    yield (
        "node_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
        [("", snapshot.node_cpu_seconds, True)],
    )
    yield (
        "node_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the node in bytes",
        [("", float(snapshot.node_memory_bytes), True)],
    )
    yield (
        "pod_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
        _pods(snapshot, lambda p: p.cpu_seconds),
    )
    yield (
        "pod_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the pod in bytes",
        _pods(snapshot, lambda p: float(p.memory_bytes)),
    )
    error = [("", float(snapshot.failed), False)]
    text = "1 if there was an error while getting container metrics, 0 otherwise"
    yield "resource_scrape_error", "gauge", f"[STABLE] {text}", error
    yield "scrape_error", "gauge", f"[ALPHA] (Deprecated since 1.29.0) {text}", error


def _containers(snapshot: Snapshot, value: Callable[[ContainerUsage], float], *, timed: bool = True) -> list[Sample]:
    return [
        (f'{{container="{c.name}",pod="{p.pod.name}",namespace="{p.pod.namespace}"}}', value(c), timed)
        for p in snapshot.pods
        for c in p.containers
    ]


def _pods(snapshot: Snapshot, value: Callable[[PodUsage], float]) -> list[Sample]:
    return [(f'{{pod="{p.pod.name}",namespace="{p.pod.namespace}"}}', value(p), True) for p in snapshot.pods]


def summary(snapshot: Snapshot, *, node_name: str) -> dict[str, Any]:
    """/stats/summary with what is known: CPU and memory of node, pods and containers."""
    node = {
        "nodeName": node_name,
        "startTime": _time(snapshot.node_started_at),
        **_figures(snapshot, snapshot.node_cpu_seconds, snapshot.node_cpu_nanocores, memory=snapshot.node_memory_bytes),
    }
    return {"node": node, "pods": [_pod(snapshot, p) for p in snapshot.pods]}


def _pod(snapshot: Snapshot, usage: PodUsage) -> dict[str, Any]:
    pod = usage.pod
    return {
        "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        "startTime": _time(pod.started_at or 0.0),
        "containers": [
            {
                "name": c.name,
                "startTime": _time(c.started_at),
                **_figures(snapshot, c.cpu_seconds, c.cpu_nanocores, memory=c.memory_bytes),
            }
            for c in usage.containers
        ],
        **_figures(snapshot, usage.cpu_seconds, usage.cpu_nanocores, memory=usage.memory_bytes),
    }


def _figures(snapshot: Snapshot, cpu_seconds: float, cpu_nanocores: int, *, memory: int) -> dict[str, Any]:
    at = _time(snapshot.at)
    return {
        "cpu": {"time": at, "usageNanoCores": cpu_nanocores, "usageCoreNanoSeconds": int(cpu_seconds * 1e9)},
        "memory": {"time": at, "usageBytes": memory, "workingSetBytes": memory},
    }


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
