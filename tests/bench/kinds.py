"""Reflection of Services and the like: how long until the provider shows a change, at rest and under load.

Every change is seen by two watches, the consumer's and the provider's: the first is the round trip to an API server and
back, what the second takes longer is reflection, with its own write at the provider.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy import stack
from deploy.lab.cluster import LabCluster
from deploy.lab.lab import Lab
from kube.client import Client
from kube.objects import WithMetadata
from kube.resources import SERVICE_ACCOUNTS
from reflection.kinds import table
from reflection.kinds.endpointslice import ENDPOINT_SLICES, SERVICE_NAME
from reflection.kinds.service import SERVICE
from tests.bench.changes import MARK, Marks, percentile, watching
from tests.bench.counters import Meter
from tests.bench.report import Report, progress
from tests.bench.settings import BenchSettings
from tests.bench.world import CONSUMER_ID, World
from tests.cluster.kinds.cases import CASES, WIDGETS, Case, service

Json = dict[str, Any]

_NODE = "virtual-kinds"
_NAMESPACE = "bench-kinds"
_RBAC = "rbac.authorization.k8s.io"
_PAUSE = 0.03
"""Seconds of rest between two changes of an idle system."""
_SLICES, _IN_SLICE = 10, 100


@dataclass(frozen=True, slots=True)
class Both:
    """Both sides of the reflected namespace as their administrators see them."""

    consumer: Client
    provider: Client
    meter: Meter

    @asynccontextmanager
    async def watching(self, case: Case) -> AsyncIterator[tuple[Marks, Marks]]:
        """What both sides show of a kind."""
        resource = case.kind.resource
        async with (
            watching(self.consumer, resource, _NAMESPACE) as here,
            watching(self.provider, resource, _NAMESPACE) as there,
        ):
            yield here, there

    async def create(self, resource: Any, body: Json) -> None:
        typed = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
        await self.consumer.create(resource, typed, namespace=_NAMESPACE, decode=WithMetadata)

    async def mark(self, resource: Any, name: str, number: int) -> None:
        place = "labels" if resource == SERVICE_ACCOUNTS else "annotations"  # no annotation of an account crosses over
        body = {"metadata": {place: {MARK: str(number)}}}
        await self.consumer.patch(resource, body, name=name, namespace=_NAMESPACE, decode=WithMetadata)


async def run(world: World, settings: BenchSettings, report: Report) -> None:
    """All kinds in turn, as many rounds as asked for; then a Service with a thousand endpoints."""
    await asyncio.to_thread(_prepare, world.lab)
    node = await asyncio.to_thread(_start, world.lab)
    try:
        meter = Meter(world.lab.clusters.values(), world.clients, node)
        both = Both(world.clients["consumer"], world.clients["provider"], meter)
        found: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for case in CASES:
            await _make(both, case, settings.objects)
        for number in range(settings.rounds):
            for case in CASES:
                kind = case.kind.resource_name
                found.setdefault((kind, "idle"), []).extend(await _idle(both, case, settings))
                found.setdefault((kind, f"{settings.rate}/s"), []).extend(await _loaded(both, case, settings))
            progress(f"kinds: round {number + 1}")
        report.keep("kinds", {"seconds": [{"kind": k, "load": load, "pairs": p} for (k, load), p in found.items()]})
        for (kind, load), pairs in sorted(found.items()):
            _rows(report, kind, load, pairs)
        await _endpoints(both, report, rounds=settings.rounds)
    finally:
        await asyncio.to_thread(node.unit.stop)


def _rows(report: Report, kind: str, load: str, pairs: Sequence[tuple[float, float]]) -> None:
    here, there = [1000 * pair[0] for pair in pairs], [1000 * pair[1] for pair in pairs]
    longer = [b - a for a, b in zip(here, there, strict=True)]
    for share in (0.5, 0.99):
        title = f"{kind}, {load}: change to watch, p{share * 100:.0f}, ms"
        report.add(title, [percentile(here, share)], [percentile(there, share)], digits=1)
    report.add(f"{kind}, {load}: over the round trip, p99, ms", [], [percentile(longer, 0.99)], digits=1)


async def _make(both: Both, case: Case, count: int) -> None:
    """The objects of a kind, seen on both sides."""
    for kind, body in case.before:
        await both.create(kind.resource, {**body, "metadata": {**body["metadata"], "name": "before"}})
    name = _names(case, count)
    async with both.watching(case) as (_, there):
        for each in name:
            metadata = {**case.body["metadata"], "name": each}
            if SERVICE_NAME in metadata.get("labels", {}):
                metadata["labels"] = {SERVICE_NAME: "before"}
            await both.create(case.kind.resource, {**case.body, "metadata": metadata})
        await there.until(lambda: set(name) <= there.names, what=f"{case.kind.resource_name} at the provider")


def _names(case: Case, count: int) -> list[str]:
    return [f"{case.kind.resource.plural}-{number}" for number in range(count)]


async def _idle(both: Both, case: Case, settings: BenchSettings) -> list[tuple[float, float]]:
    """One change after the other, each when the last has been shown."""
    names, found = _names(case, settings.objects), []
    async with both.watching(case) as (here, there):
        for number in range(settings.samples):
            await asyncio.sleep(_PAUSE)
            name, mark = names[number % len(names)], time.monotonic_ns()
            began = time.monotonic()
            await both.mark(case.kind.resource, name, mark)
            for marks in (here, there):
                await marks.until(lambda m=marks: m.when(name, mark) is not None, what=f"{name} {mark}")  # type: ignore[misc]  # noqa: B023 - awaited at once
            found.append(((here.when(name, mark) or 0) - began, (there.when(name, mark) or 0) - began))
    return found


async def _loaded(both: Both, case: Case, settings: BenchSettings) -> list[tuple[float, float]]:
    """So many changes a second for a while, whether or not the last ones have been shown."""
    names = _names(case, settings.objects)
    # One change of an object at a time: of two at once the older one might be the last.
    turns = {name: asyncio.Lock() for name in names}
    sent: list[tuple[str, int, float]] = []

    async def change(name: str) -> None:
        async with turns[name]:
            mark = time.monotonic_ns()
            sent.append((name, mark, time.monotonic()))
            await both.mark(case.kind.resource, name, mark)

    async with both.watching(case) as (here, there):
        start = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(settings.rate * settings.load_seconds):
                await asyncio.sleep(max(0.0, start + number / settings.rate - time.monotonic()))
                group.create_task(change(names[number % len(names)]))
        for marks in (here, there):
            await marks.until(
                lambda m=marks: all(m.when(name, mark) is not None for name, mark, _ in sent),  # type: ignore[misc]
                what="the last changes",
            )
    return [((here.when(n, m) or 0) - began, (there.when(n, m) or 0) - began) for n, m, began in sent]


async def _endpoints(both: Both, report: Report, *, rounds: int) -> None:
    """A Service with a thousand endpoints: all of it, and one that changes."""
    first, one, writes = [], [], []
    case = next(case for case in CASES if case.kind.resource == ENDPOINT_SLICES)
    for number in range(rounds):
        name = f"large-{number}"
        await both.create(SERVICE.resource, service(name, selector=None))
        slices = [_slice(name, index) for index in range(_SLICES)]
        names = {made["metadata"]["name"] for made in slices}
        async with both.watching(case) as (_, there):
            began = time.monotonic()
            for made in slices:
                await both.create(ENDPOINT_SLICES, made)
            await there.until(lambda n=names, t=there: n <= t.names, what="a thousand endpoints")  # type: ignore[misc]
            first.append(time.monotonic() - began)
            await both.meter.settled(quiet=2.0)
            before = await both.meter.own()
            changed, mark = slices[0]["metadata"]["name"], time.monotonic_ns()
            slices[0]["endpoints"][0]["conditions"] = {"ready": False}
            body = {"metadata": {"annotations": {MARK: str(mark)}}, "endpoints": slices[0]["endpoints"]}
            began = time.monotonic()
            await both.consumer.patch(ENDPOINT_SLICES, body, name=changed, namespace=_NAMESPACE, decode=WithMetadata)
            await there.until(lambda t=there, c=changed, m=mark: t.when(c, m) is not None, what="one endpoint")  # type: ignore[misc]
            one.append(1000 * (time.monotonic() - began))
            await both.meter.settled(quiet=2.0)
            spent = (await both.meter.own())["provider"] - before["provider"]
            writes.append(sum(count for key, count in spent.items() if Meter.is_write(key)))
    report.keep("endpoints", {"seconds": first, "milliseconds": one, "writes": writes})
    report.add("Service with 1,000 endpoints: first slice made to all there, s", [], first)
    report.add("... one endpoint changes, ms", [], one, digits=1)
    report.add("... own writes for it", [], [float(count) for count in writes], digits=0)


def _slice(name: str, index: int) -> Json:
    endpoints = [
        {"addresses": [f"10.{200 + index}.0.{host + 1}"], "nodeName": "worker", "conditions": {"ready": True}}
        for host in range(_IN_SLICE)
    ]
    return {
        "metadata": {"name": f"{name}-{index}", "labels": {SERVICE_NAME: name}},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


# -- what has to be there


def _prepare(lab: Lab) -> None:
    """The namespace on both sides, a custom resource, and rights for all kinds."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}}
    lab.consumer.api.apply(body)
    lab.consumer.wait_service_account(_NAMESPACE)
    stack.grant_namespace(lab.provider, _NAMESPACE, consumer_id=CONSUMER_ID)
    lab.provider.wait_service_account(_NAMESPACE)
    for cluster, user in ((lab.consumer, f"system:node:{_NODE}"), (lab.provider, stack.provider_user(CONSUMER_ID))):
        cluster.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(_definition()))
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{WIDGETS.plural}.{WIDGETS.group}")
        _allow_all(cluster, user)


def _allow_all(cluster: LabCluster, user: str) -> None:
    """Rights are not what is measured: all in this namespace."""
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    metadata = {"name": "bench", "namespace": _NAMESPACE}
    cluster.api.apply({"apiVersion": f"{_RBAC}/v1", "kind": "Role", "metadata": metadata, "rules": rules})
    cluster.api.apply(
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": "bench"},
            "subjects": [{"apiGroup": _RBAC, "kind": "User", "name": user}],
        }
    )


def _definition() -> Json:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": WIDGETS.version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": WIDGETS.plural, "kind": WIDGETS.kind}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{WIDGETS.plural}.{WIDGETS.group}"},
        "spec": {
            "group": WIDGETS.group,
            "scope": "Namespaced",
            "names": names,
            "versions": [{**version, "subresources": {"status": {}}}],
        },
    }


def _start(lab: Lab) -> stack.VirtualNode:
    """A virtual kubelet that reflects every kind there is."""
    widget = {"group": WIDGETS.group, "version": WIDGETS.version, "plural": WIDGETS.plural, "kind": WIDGETS.kind}
    content = {
        "kinds": [kind.resource_name for kind in table.KINDS],
        "customResources": [{**widget, "statusBack": True}],
        "classes": {"ingress": [{"consumer": "near", "provider": "far"}]},
    }
    file = Path(lab.folder) / "bench-kinds.yaml"
    file.write_text(yaml.safe_dump(content))
    options = [f"--namespace={_NAMESPACE}={_NAMESPACE}", f"--reflect-kinds={file}"]
    node = stack.start(lab, node=_NODE, consumer_id=CONSUMER_ID, options=options, log_level="warning")
    node.wait_ready()
    return node
