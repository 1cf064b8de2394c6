"""Resource metrics and stats."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import msgspec
import pytest

from kube.errors import ApiError
from tests.unit.vk_server.conftest import UID, Kubelet
from tests.unit.vk_server.wire import Head
from vk.server import exposition
from vk.server.interfaces import MeasuredPod
from vk.server.usage import FLOOR, PodMetrics, Usage

POD = MeasuredPod("default", "web", UID, "default-c1", "web", 900.0, {"app": 900.0, "side": 950.0})


@dataclasses.dataclass
class Provider:
    """metrics.k8s.io with figures of the test's own."""

    usage: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    error: Exception | None = None
    silent: bool = False
    calls: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    async def list(self, resource: Any, /, *, namespace: str, label_selector: str, decode: type[PodMetrics]) -> Any:
        self.calls.append((namespace, label_selector))
        if self.silent:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        containers = [{"name": name, "usage": usage} for name, usage in self.usage.items()]
        metrics = {"metadata": {"namespace": namespace, "name": "web"}, "containers": containers}
        return type("Listing", (), {"items": [msgspec.convert(metrics, decode)]})


class Pods:
    def __init__(self, *pods: MeasuredPod) -> None:
        self.pods = pods

    def measured_pods(self) -> tuple[MeasuredPod, ...]:
        return self.pods


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def make(provider: Provider, *, timeout: float = 8.0) -> tuple[Usage, Clock, Pods]:
    clock, pods = Clock(), Pods(POD)
    return Usage(pods, provider, label_selector="node=vn", timeout=timeout, clock=clock), clock, pods


def samples(text: bytes) -> dict[str, float]:
    lines = [line.split() for line in text.decode().splitlines() if not line.startswith("#")]
    return {line[0]: float(line[1]) for line in lines}


async def test_the_rate_between_two_scrapes_is_the_rate_the_provider_measured() -> None:
    provider = Provider({"app": {"cpu": "250m", "memory": "64Mi"}, "side": {"cpu": "0", "memory": "1Mi"}})
    usage, clock, _ = make(provider)
    first = await usage.snapshot()
    provider.usage["app"]["cpu"] = "500000000n"
    clock.now += 15
    second = await usage.snapshot()
    app, side = (p.containers for p in (first.pods[0], second.pods[0]))
    assert (side[0].cpu_seconds - app[0].cpu_seconds) / 15 == pytest.approx(0.5)
    assert app[0].cpu_seconds == pytest.approx(0.25 * 100)
    assert second.pods[0].memory_bytes == 65 * 2**20
    assert provider.calls == [("default-c1", "node=vn")] * 2
    assert second.node_cpu_seconds - first.node_cpu_seconds >= 0.5 * 15


async def test_an_idle_container_never_stands_at_zero() -> None:
    usage, _, _ = make(Provider({"app": {"cpu": "0", "memory": "1Mi"}, "side": {"cpu": "1n", "memory": "1Mi"}}))
    for container in (await usage.snapshot()).pods[0].containers:
        assert container.cpu_seconds >= FLOOR


async def test_counters_only_grow_until_a_container_is_started_anew() -> None:
    provider = Provider({"app": {"cpu": "1", "memory": "1Mi"}})
    usage, clock, pods = make(provider)
    last = 0.0
    for cpu in ("1", "0", "3", "1m", "0"):
        provider.usage["app"]["cpu"] = cpu
        clock.now += 20
        now = (await usage.snapshot()).pods[0].containers[0].cpu_seconds
        assert now >= last
        last = now
    clock.now += 20
    provider.usage["app"]["cpu"] = "1"
    pods.pods = (dataclasses.replace(POD, containers={"app": clock.now - 5}),)
    node = (await usage.snapshot()).node_cpu_seconds
    assert (await usage.snapshot()).pods[0].containers[0].cpu_seconds == pytest.approx(5)
    clock.now += 20
    assert (await usage.snapshot()).node_cpu_seconds >= node


async def test_a_new_pod_is_no_burst_of_the_node() -> None:
    provider = Provider({"app": {"cpu": "1", "memory": "1Mi"}})
    usage, clock, pods = make(provider)
    pods.pods = ()
    before = await usage.snapshot()
    clock.now += 15
    pods.pods = (POD,)
    after = await usage.snapshot()
    assert after.pods[0].cpu_seconds == pytest.approx(115)
    assert after.node_cpu_seconds - before.node_cpu_seconds < 16


async def test_a_clock_that_goes_back_does_no_harm() -> None:
    provider = Provider({"app": {"cpu": "1", "memory": "1Mi"}})
    usage, clock, _ = make(provider)
    first = (await usage.snapshot()).pods[0].cpu_seconds
    clock.now -= 500
    await usage.snapshot()
    clock.now += 520
    assert (await usage.snapshot()).pods[0].cpu_seconds >= first


async def test_the_provider_is_asked_once_for_many() -> None:
    provider = Provider({"app": {"cpu": "1", "memory": "1Mi"}})
    usage, clock, _ = make(provider)
    await asyncio.gather(*(usage.snapshot() for _ in range(50)))
    assert len(provider.calls) == 1
    clock.now += 5
    await usage.snapshot()
    assert len(provider.calls) == 1


async def test_a_failing_provider_is_said_and_not_asked_again_at_once() -> None:
    provider = Provider({"app": {"cpu": "1", "memory": "1Mi"}}, error=ApiError(status=503))
    usage, clock, _ = make(provider)
    values = samples(exposition.resource_metrics(await usage.snapshot()))
    assert values["resource_scrape_error"] == 1
    assert values["scrape_error"] == 1
    await usage.snapshot()
    assert len(provider.calls) == 1
    provider.error = None
    clock.now += 4
    assert samples(exposition.resource_metrics(await usage.snapshot()))["resource_scrape_error"] == 0


async def test_a_silent_provider_costs_a_bounded_time() -> None:
    usage, _, _ = make(Provider(silent=True), timeout=0.05)
    async with asyncio.timeout(2):
        assert (await usage.snapshot()).failed


@pytest.mark.parametrize("cpu", ["", "x", "-1", "1e999", None])
async def test_nonsense_of_the_provider_is_left_out(cpu: str | None) -> None:
    entry = {"memory": "1Mi"} if cpu is None else {"cpu": cpu, "memory": "1Mi"}
    usage, _, _ = make(Provider({"app": entry, "side": {"cpu": "1m", "memory": "1Mi"}, "foreign": {"cpu": "1"}}))
    names = [c.name for c in (await usage.snapshot()).pods[0].containers]
    assert "side" in names
    assert "foreign" not in names


async def test_text_has_the_labels_and_times_that_readers_expect() -> None:
    provider = Provider({"app": {"cpu": "250m", "memory": "64Mi"}, "side": {"cpu": "0", "memory": "1Mi"}})
    usage, _, _ = make(provider)
    text = exposition.resource_metrics(await usage.snapshot()).decode()
    assert 'container_cpu_usage_seconds_total{container="app",pod="web",namespace="default"} 25.0 1000000\n' in text
    assert 'container_memory_working_set_bytes{container="side",pod="web",namespace="default"} 1048576.0 100' in text
    assert 'container_start_time_seconds{container="side",pod="web",namespace="default"} 950.0\n' in text
    assert 'pod_memory_working_set_bytes{pod="web",namespace="default"} 68157440.0 1000000\n' in text
    values = samples(text.encode())
    assert values["node_cpu_usage_seconds_total"] > 0
    assert values["node_memory_working_set_bytes"] > 65 * 2**20
    assert text.count("# TYPE ") == text.count("# HELP ") == 9


async def test_the_whole_way_from_the_provider_to_the_reader(kubelet: Kubelet) -> None:
    async def metrics(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        usage = {"cpu": "12345678n", "memory": "2048Ki"}
        item = {"metadata": {"name": "web", "namespace": "default-c1"}, "timestamp": "x", "window": "15s"}
        items = [{**item, "containers": [{"name": "app", "usage": usage}]}]
        body = msgspec.json.encode({"kind": "PodMetricsList", "metadata": {}, "items": items})
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
        writer.write(body)
        await reader.read()

    kubelet.provider.script = metrics
    kubelet.pods.measured = [POD]
    answer = await kubelet.ask("/metrics/resource")
    assert samples(answer.body)['container_memory_working_set_bytes{container="app",pod="web",namespace="default"}']
    sent = kubelet.provider.heads[0]
    assert sent.path == "/apis/metrics.k8s.io/v1beta1/namespaces/default-c1/pods"
    assert dict(sent.query)["labelSelector"] == "offloading.isthmus.dev/node=vn-1"
    summary = msgspec.json.decode((await kubelet.ask("/stats/summary")).body)
    assert summary["node"]["nodeName"] == "vn-1"
    assert summary["pods"][0]["podRef"] == {"name": "web", "namespace": "default", "uid": UID}
    container = summary["pods"][0]["containers"][0]
    assert container["name"] == "app"
    assert container["cpu"]["usageNanoCores"] == 12_345_678
    assert container["memory"]["workingSetBytes"] == 2048 * 1024
    assert summary["node"]["cpu"]["usageCoreNanoSeconds"] > 0
    assert len(kubelet.provider.heads) == 1


async def test_a_provider_that_is_away_is_no_500(kubelet: Kubelet) -> None:
    kubelet.pods.measured = [POD]
    await kubelet.provider.stop()
    answer = await kubelet.ask("/metrics/resource")
    assert answer.status == 200
    assert samples(answer.body)["resource_scrape_error"] == 1
