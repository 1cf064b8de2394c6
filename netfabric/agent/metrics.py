"""An agent's figures for Prometheus, read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from netfabric.agent.agent import Agent


class AgentCollector(Collector):
    """Drops by reason and peer, paths, problems, repairs."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def collect(self) -> Iterator[Metric]:
        """All metrics of the agent."""
        dropped = CounterMetricFamily(
            "isthmus_fabric_dropped_packets", "packets that the firewall dropped", labels=["reason", "peer"]
        )
        for reason, peer, count in self._agent.counters():
            dropped.add_metric([reason, peer], count.packets)
        yield dropped
        yield from self._paths()
        reconciler = self._agent.reconciler
        applied = reconciler.applied
        yield GaugeMetricFamily(
            "isthmus_fabric_problems",
            "things that are not as desired",
            value=len(applied.problems) if applied else 0,
        )
        yield GaugeMetricFamily(
            "isthmus_fabric_generation", "generation that is applied", value=applied.version[1] if applied else 0
        )
        yield CounterMetricFamily(
            "isthmus_fabric_repairs", "steps that put right what somebody had changed", value=reconciler.repairs
        )

    def _paths(self) -> Iterator[Metric]:
        passing = GaugeMetricFamily("isthmus_fabric_path_passing", "1 if probes are answered", labels=["path", "peer"])
        latency = GaugeMetricFamily("isthmus_fabric_path_seconds", "smoothed round trip", labels=["path", "peer"])
        loss = GaugeMetricFamily("isthmus_fabric_path_loss", "share of lost probes, of 20", labels=["path", "peer"])
        size = GaugeMetricFamily("isthmus_fabric_path_mtu_bytes", "largest packet that passes", labels=["path", "peer"])
        for measured in self._agent.monitor.measured.values():
            labels = [measured.target.name, measured.target.peer]
            passing.add_metric(labels, float(measured.passing))
            latency.add_metric(labels, measured.smoothed)
            loss.add_metric(labels, measured.loss)
            size.add_metric(labels, measured.path_mtu)
        yield from (passing, latency, loss, size)
