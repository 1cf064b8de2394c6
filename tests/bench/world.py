"""What most figures are taken in: two control planes with fake nodes, a virtual node, and clients of both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from deploy import stack
from deploy.lab.lab import Lab
from kube import config
from kube.client import Client
from kube.resources import NAMESPACES
from tests.bench.counters import Meter
from tests.bench.pods import Side, watching
from tests.bench.report import progress

CONSUMER_ID = "lab"
PODS_PER_NODE = 10_000
_CAPACITY = {"cpu": "20000", "memory": "80Ti", "pods": "20000"}
_NAMESPACE = "bench"


@dataclass(frozen=True, slots=True)
class World:
    """Two ways to the same provider, and meters on all of it."""

    lab: Lab
    node: stack.VirtualNode
    clients: dict[str, Client]
    direct: Side
    """Pods that the provider's scheduler places, as it places remote pods."""
    bound: Side
    """Pods that name their node, so that no scheduler sees them."""
    isthmus: Side
    meter: Meter

    @property
    def remote_namespace(self) -> str:
        """Where the pods of `isthmus` are at the provider."""
        return f"{self.isthmus.namespace}-{CONSUMER_ID}"


@asynccontextmanager
async def opened(lab: Lab, *, concurrency: int) -> AsyncIterator[World]:
    """Start the virtual node in a lab with fake nodes and make everything warm."""
    stack.grant(lab.provider, consumer_id=CONSUMER_ID)
    node = stack.start(
        lab,
        consumer_id=CONSUMER_ID,
        capacity=_CAPACITY,
        options=["--namespace-linger=3600"],
        log_level="warning",
    )
    await asyncio.to_thread(node.wait_ready)
    async with _client(lab, "consumer") as consumer, _client(lab, "provider") as provider:
        clients = {"consumer": consumer, "provider": provider}
        fake = [f"{lab.provider.name}-kwok-{number}" for number in range(lab.settings.kwok)]
        direct = Side("direct", provider, _NAMESPACE, (), concurrency)
        bound = Side("bound", provider, _NAMESPACE, fake, concurrency)
        isthmus = Side("isthmus", consumer, _NAMESPACE, [node.name], concurrency)
        meter = Meter(lab.clusters.values(), clients, node)
        for cluster in lab.clusters.values():
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}}
            await clients[cluster.name].create(NAMESPACES, body)
            await asyncio.to_thread(cluster.wait_service_account, _NAMESPACE)
        for side in (direct, bound, isthmus):
            await _warm(side)
        await meter.settled()
        try:
            yield World(lab, node, clients, direct, bound, isthmus, meter)
        finally:
            node.unit.stop()


@asynccontextmanager
async def held(world: World, count: int) -> AsyncIterator[list[str]]:
    """So many pods on the virtual node during the block, at rest."""
    names = [f"held-{number}" for number in range(count)]
    side = world.isthmus
    async with watching(side.client, side.namespace) as sight:
        await side.create(names)
        await sight.all_ready(names)
    await world.meter.settled(quiet=3.0)
    progress(f"{count} pods are there")
    yield names
    async with watching(side.client, side.namespace) as sight:
        left = list(sight.present)
        await side.delete(left)
        await sight.all_gone(left)
    await world.meter.settled(quiet=2.0)


@asynccontextmanager
async def _client(lab: Lab, cluster: str) -> AsyncIterator[Client]:
    credentials = await config.load(kubeconfig=str(lab.clusters[cluster].admin_kubeconfig))
    async with Client.connect(credentials, name=cluster, user_agent="bench") as client:
        yield client


async def _warm(side: Side) -> None:
    """The first pods of a namespace pay for its set-up: not measured."""
    names = [f"warm-{number}" for number in range(5)]
    async with watching(side.client, side.namespace) as sight:
        await side.create(names)
        await sight.all_ready(names)
        await side.delete(names)
        await sight.all_gone(names)
