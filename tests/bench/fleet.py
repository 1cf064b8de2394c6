"""Ten virtual nodes of one provider, and a hundred namespaces: memory, requests, CPU, time until all is there."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from api.meta import Condition
from api.offloading.definitions import NAMESPACE_OFFLOADINGS
from api.offloading.namespaces import NamespaceOffloading
from deploy import stack
from deploy.lab.lab import Lab
from deploy.lab.paths import ROOT
from deploy.lab.process import Unit
from kube.objects import WithMetadata
from kube.resources import NAMESPACES
from reflection.kinds.service import SERVICE
from tests.bench import processes
from tests.bench.counters import Counts, Meter
from tests.bench.report import Report, progress
from tests.bench.settings import BenchSettings
from tests.bench.world import CONSUMER_ID, World
from tests.cluster.kinds.cases import service

Json = dict[str, Any]

_PROVIDER = "fleet"
_RBAC = "rbac.authorization.k8s.io"
_ROLES = ("isthmus-namespace-offloadings", "isthmus-kinds")
_TIMEOUT = 300.0


async def run(world: World, settings: BenchSettings, report: Report) -> None:
    """An idle while with the nodes alone, the namespaces, and an idle while with them."""
    names = [f"fleet-{number}" for number in range(settings.nodes)]
    await asyncio.to_thread(_prepare, world.lab, names)
    manager = await asyncio.to_thread(_manager, world.lab)
    nodes = await asyncio.to_thread(lambda: [_start(world.lab, name) for name in names])
    try:
        for node in nodes:
            await asyncio.to_thread(node.wait_ready)
        meters = [Meter((), world.clients, node) for node in nodes]
        alone = await _rest(nodes, meters, settings.idle_seconds)
        progress(f"fleet: {settings.nodes} nodes at rest")
        seconds = await _offload(world, settings.namespaces)
        progress(f"fleet: {settings.namespaces} namespaces")
        full = await _rest(nodes, meters, settings.idle_seconds)
        manager.check_alive()
        report.keep("fleet", {"alone": alone, "full": full, "seconds": seconds, "settings": [*names]})
        _rows(report, settings, alone, full, seconds)
    finally:
        for unit in (*(node.unit for node in nodes), manager):
            await asyncio.to_thread(unit.stop)


def _rows(report: Report, settings: BenchSettings, alone: Json, full: Json, seconds: Json) -> None:
    count, spaces = settings.nodes, settings.namespaces
    minutes = settings.idle_seconds / 60
    for title, found in ((f"{count} nodes", alone), (f"{count} nodes, {spaces} namespaces", full)):
        report.add(f"{title}: memory of each, MB", [], [size / 1e6 for size in found["bytes"]], digits=0)
        for cluster in ("consumer", "provider"):
            each = [sum(own[cluster].values()) / minutes for own in found["requests"]]
            report.add(f"{title}: requests of each a minute, {cluster}", [], each, digits=0)
        report.add(f"{title}: CPU of all, s a minute", [], [found["cpu"] / minutes])
    report.add(f"{spaces} namespaces: declared to all Ready, s", [], [seconds["ready"]], digits=1)
    report.add(f"{spaces} Services, one in each: made to all there, s", [], [seconds["services"]], digits=1)


async def _rest(nodes: Sequence[stack.VirtualNode], meters: Sequence[Meter], seconds: float) -> Json:
    """A while of nothing to do: what all processes hold and spend."""
    await asyncio.gather(*(meter.settled(quiet=3.0) for meter in meters))
    before = [await meter.before(upkeep=True) for meter in meters]
    await asyncio.sleep(seconds)
    spent: list[Counts] = [
        (await meter.after(upkeep=True)).since(old) for meter, old in zip(meters, before, strict=True)
    ]
    return {
        "bytes": [processes.resident_bytes(node.unit.pid or 0) for node in nodes],
        "requests": [{cluster: Counter(own) for cluster, own in one.own.items()} | _none(one) for one in spent],
        "cpu": sum(one.cpu["virtual-kubelet"] for one in spent) / 1000,
    }


def _none(spent: Counts) -> dict[str, Counter[str]]:
    return {cluster: Counter() for cluster in ("consumer", "provider") if cluster not in spent.own}


async def _offload(world: World, count: int) -> Json:
    """So many namespaces offloaded at once, then a Service in each."""
    consumer, provider = world.clients["consumer"], world.clients["provider"]
    names = [f"space-{number}" for number in range(count)]

    async def make(name: str) -> None:
        body: Json = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await consumer.create(NAMESPACES, body, decode=WithMetadata)
        offloading = {
            "apiVersion": NAMESPACE_OFFLOADINGS.api_version,
            "kind": NAMESPACE_OFFLOADINGS.kind,
            "metadata": {"name": "offloading"},
            "spec": {"podStrategy": "Remote", "virtualNodeSelector": {"matchLabels": {"bench": "fleet"}}},
        }
        await consumer.create(NAMESPACE_OFFLOADINGS, offloading, namespace=name, decode=WithMetadata)

    began = time.monotonic()
    await asyncio.gather(*map(make, names))
    await _until(lambda: _ready(world, names))
    ready = time.monotonic() - began
    began = time.monotonic()
    typed = {"apiVersion": SERVICE.resource.api_version, "kind": SERVICE.resource.kind, **service()}
    await asyncio.gather(
        *(consumer.create(SERVICE.resource, typed, namespace=name, decode=WithMetadata) for name in names)
    )

    async def there() -> bool:
        listing = await provider.list(SERVICE.resource, label_selector="app=web", decode=WithMetadata)
        found = {item.metadata.namespace for item in listing.items}
        return {f"{name}-{CONSUMER_ID}" for name in names} <= found

    await _until(there)
    return {"ready": ready, "services": time.monotonic() - began}


async def _ready(world: World, names: Sequence[str]) -> bool:
    listing = await world.clients["consumer"].list(NAMESPACE_OFFLOADINGS, decode=NamespaceOffloading)
    ready = {item.metadata.namespace for item in listing.items if any(map(_is_ready, item.status.conditions))}
    return set(names) <= ready


def _is_ready(condition: Condition) -> bool:
    return (condition.type, condition.status) == ("Ready", "True")


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(_TIMEOUT):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.2)


# -- what has to be there


def _prepare(lab: Lab, names: Sequence[str]) -> None:
    lab.consumer.kubectl("apply", "--server-side", "-k", stack.CRDS)
    lab.consumer.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    for file in ("consumer-kinds.yaml", "consumer-offloadings.yaml"):
        lab.consumer.kubectl("apply", "--server-side", "-f", stack.RBAC / file)
    for role in _ROLES:
        lab.consumer.api.apply(
            {
                "apiVersion": f"{_RBAC}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": f"bench-{role}"},
                "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
                "subjects": [{"apiGroup": _RBAC, "kind": "User", "name": f"system:node:{name}"} for name in names],
            }
        )
    lab.consumer.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "isthmus"}})
    stack.elect(lab.provider, consumer_id=CONSUMER_ID)


def _manager(lab: Lab) -> Unit:
    """The manager, which says what is wanted of the provider."""
    host = lab.add_host("bench-manager")
    host.folder.mkdir(parents=True, exist_ok=True)
    argv = [
        *(sys.executable, "-m", "isthmus", "manager", "--image=none", f"--consumer-id={CONSUMER_ID}"),
        f"--kubeconfig={lab.consumer.admin_kubeconfig}",
        *("--webhook-listen=", "--health-listen=", "--log-level=warning"),
    ]
    return host.start("manager", argv, env={"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"})


def _start(lab: Lab, name: str) -> stack.VirtualNode:
    options = ["--namespaces-from-objects", f"--provider={_PROVIDER}", "--label=bench=fleet", "--reflect-kinds=default"]
    election = f"--kinds-election-namespace=isthmus-{CONSUMER_ID}"
    return stack.start(lab, node=name, consumer_id=CONSUMER_ID, options=[*options, election], log_level="warning")
