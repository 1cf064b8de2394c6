"""A cluster with nodes and agents that are only said to be there, and the controller in front of a real API server."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from api.networking.definitions import EXTERNAL_ADDRESSES, NETWORK_PEERINGS
from kube import config
from kube.client import Client, PatchType
from kube.errors import ApiError
from kube.guard import BINDINGS, POLICIES
from kube.resources import NODES, PODS, Resource
from netfabric.controller.fabric import Fabric, FabricSettings
from netfabric.controller.facts import Offloaded
from tests.cluster.network.agents import ScriptedAgent, serving

Json = dict[str, Any]
NAMESPACES = {"pods": "isthmus-network"}
"""Where things are that have a namespace; the others are in the manager's."""
LONG = 40.0
LOCAL = {"podCIDRs": ["10.0.0.0/16"], "serviceCIDRs": ["10.96.0.0/16"], "externalCIDRs": ["10.250.0.0/24"]}


@dataclass
class Pods:
    """What offloading is said to have brought where."""

    known: dict[str, Offloaded] = field(default_factory=dict)

    def of(self, peer: str) -> Offloaded:
        return self.known.get(peer, Offloaded())


@dataclass
class World:
    """One cluster as its administrator sees it."""

    client: Client
    kubeconfig: Path
    folder: Path
    manager: Client
    pods: Pods = field(default_factory=Pods)
    terms: int = 0

    async def create(self, resource: Resource, body: Json) -> None:
        namespace = namespace_of(resource)
        full = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
        await self.client.create(resource, full, namespace=namespace)

    async def peer(self, name: str, **spec: Any) -> None:
        """A NetworkPeering."""
        await self.create(NETWORK_PEERINGS, {"metadata": {"name": name}, "spec": {"local": LOCAL, **spec}})

    async def change(self, resource: Resource, name: str, **spec: Any) -> None:
        """Merge into a spec."""
        await self.client.patch(resource, {"spec": spec}, name=name, kind=PatchType.MERGE)

    async def node(self, name: str, *, number: int) -> None:
        """A node that has been given a network for its pods, and its agent's pod."""
        body = {"metadata": {"name": name}, "spec": {"podCIDRs": [f"10.0.{number}.0/24"]}}
        body["spec"]["podCIDR"] = f"10.0.{number}.0/24"  # type: ignore[index] # a dict
        await self.create(NODES, body)
        status = {"status": {"addresses": [{"type": "InternalIP", "address": f"192.168.5.{number}"}]}}
        await self.client.patch(NODES, status, name=name, subresource="status")
        await self.pod(f"agent-{name}", component="fabric-node", ip=f"192.168.5.{number}", node=name)

    async def pod(self, name: str, *, component: str, ip: str, node: str = "") -> None:
        """An agent's pod."""
        spec: Json = {"containers": [{"name": "agent", "image": "none"}], "hostNetwork": bool(node)}
        spec |= {"nodeName": node} if node else {"schedulerName": "nobody"}
        labels = {"app.kubernetes.io/component": component}
        await self.create(PODS, {"metadata": {"name": name, "labels": labels}, "spec": spec})
        status = {"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}}
        await self.client.patch(PODS, status, namespace=namespace_of(PODS), name=name, subresource="status")

    async def get(self, resource: Resource, name: str) -> Json:
        return await self.client.get(resource, name=name, namespace=namespace_of(resource))

    async def guarded(self) -> bool:
        """Whether agents are kept in place."""
        try:
            await self.client.get(BINDINGS, name="isthmus-in-use-network")
        except ApiError as error:
            if not error.not_found:
                raise
            return False
        return True

    async def until(
        self, name: str, holds: Callable[[Json], object], *, what: str, resource: Resource = NETWORK_PEERINGS
    ) -> Json:
        """The object once its status is so."""
        deadline, found = time.monotonic() + LONG, {}
        while time.monotonic() < deadline:
            found = await self.get(resource, name)
            with contextlib.suppress(KeyError, StopIteration, IndexError):
                if holds(found.get("status", {})):
                    return found
            await asyncio.sleep(0.1)
        raise AssertionError(f"waited for {what}; last seen: {found.get('status')}")

    async def condition(self, name: str, kind: str, reason: str, *, resource: Resource = NETWORK_PEERINGS) -> Json:
        """A condition once it has this reason."""
        found = await self.until(
            name,
            lambda status: condition(status, kind)["reason"] == reason,
            what=f"{kind}: {reason}",
            resource=resource,
        )
        return condition(found["status"], kind)

    @asynccontextmanager
    async def controller(self) -> AsyncIterator[Fabric]:
        """A leader, with the manager's own rights."""
        self.terms += 1
        term = self.terms

        async def told() -> int:
            return term

        settings = FabricSettings(target=lambda agent: f"unix:{self.folder}/{agent.name}")
        fabric = Fabric(self.manager, settings, offloaded=self.pods, check=lambda: None, term=told)
        caches = [asyncio.ensure_future(reflector.run()) for _, reflector in fabric.cache_tasks()]
        for _, reflector in fabric.cache_tasks():
            await reflector.synced.wait()
        workers = [asyncio.ensure_future(work()) for _, work in fabric.worker_tasks()]
        try:
            yield fabric
            for task in (*caches, *workers):
                assert not task.done(), task.exception()
        finally:
            for task in (*caches, *workers):
                task.cancel()
            await asyncio.gather(*caches, *workers, return_exceptions=True)

    async def clean(self) -> None:
        """Leave nothing of the test."""
        for resource in (NETWORK_PEERINGS, EXTERNAL_ADDRESSES):
            for found in (await self.client.list(resource)).items:
                await self._delete(resource, found["metadata"]["name"])
        for pod in (await self.client.list(PODS, namespace=namespace_of(PODS))).items:
            await self._delete(PODS, pod["metadata"]["name"])
        for name in ("worker-1", "worker-2"):
            await self._delete(NODES, name)
        for resource in (BINDINGS, POLICIES):
            await self._delete(resource, "isthmus-in-use-network")

    async def _delete(self, resource: Resource, name: str) -> None:
        namespace = namespace_of(resource)
        with contextlib.suppress(ApiError):
            await self.client.delete(resource, name=name, namespace=namespace, grace_period_seconds=0)


def namespace_of(resource: Resource) -> str | None:
    """Where objects of this kind are."""
    return NAMESPACES.get(resource.plural, "isthmus") if resource.namespaced else None


def condition(status: Json, kind: str) -> Json:
    """A condition of a status. StopIteration if it is not there."""
    found: Json = next(one for one in status["conditions"] if one["type"] == kind)
    return found


@dataclass
class Agents:
    """Two nodes and two gateways."""

    nodes: list[ScriptedAgent]
    gateways: list[ScriptedAgent]
    stacks: dict[str, AsyncExitStack] = field(default_factory=dict)

    @property
    def all(self) -> list[ScriptedAgent]:
        return [*self.nodes, *self.gateways]

    async def kill(self, name: str) -> None:
        """One of them crashes."""
        await self.stacks.pop(name).aclose()


@asynccontextmanager
async def agents(world: World) -> AsyncIterator[Agents]:
    """Said to be there, and answering."""
    made = Agents(
        [ScriptedAgent(f"worker-{n}", "node") for n in (1, 2)],
        [ScriptedAgent(f"gateway-{n}", "gateway") for n in (1, 2)],
    )
    for number in (1, 2):
        await world.node(f"worker-{number}", number=number)
        await world.pod(f"gateway-{number}", component="fabric-gateway", ip=f"10.0.9.{number}")
    async with AsyncExitStack() as all_of_them:
        for agent in made.all:
            made.stacks[agent.name] = AsyncExitStack()
            await made.stacks[agent.name].enter_async_context(serving(agent, world.folder))
            all_of_them.push_async_callback(made.stacks[agent.name].aclose)
        yield made


@asynccontextmanager
async def opened(kubeconfig: Path, manager: Path, folder: Path) -> AsyncIterator[World]:
    """A cluster, as it was before when the block ends."""
    async with AsyncExitStack() as stack:
        admin = await stack.enter_async_context(
            Client.connect(await config.load(kubeconfig=str(kubeconfig)), name="admin")
        )
        own = await stack.enter_async_context(Client.connect(await config.load(kubeconfig=str(manager)), name="own"))
        made = World(admin, kubeconfig, folder, own)
        try:
            yield made
        finally:
            await made.clean()
