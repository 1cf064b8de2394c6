"""Puts the fabric's controller together: what is watched, what is decided, who is told.

There is one key: plan, numbers and states depend on all objects at once, and a look at everything costs milliseconds.
What a plan gives is in the statuses before any agent hears of it, so that the next leader finds it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import prometheus_client
import structlog

from api import installed
from api.networking.definitions import EXTERNAL_ADDRESSES, NETWORK_PEERINGS
from api.networking.external_address import ExternalAddress
from api.networking.peering import NetworkPeering, NetworkPeeringStatus
from kube.client import Client
from kube.controller import Controller, Result
from kube.election import NotLeader
from kube.errors import ApiError, KubeError
from kube.guard import Guard
from kube.reflector import Reflector
from kube.resources import NODES, PODS, SERVICES
from kube.store import Change
from netfabric.controller import declared, desired, gateways, sightings, status
from netfabric.controller.agents import AgentConnection, AgentPool
from netfabric.controller.authority import CHECK_SECONDS, Authority, Credential
from netfabric.controller.external import ExternalStatuses
from netfabric.controller.facts import Agent, Offloaded, World
from netfabric.controller.keys import KeyPair, Keys
from netfabric.controller.known import Known, Seen, tunnel_keys
from netfabric.controller.nodes import Node, Pod
from netfabric.controller.numbers import Numbers
from netfabric.controller.sightings import COMPONENT_LABEL, COMPONENTS
from netfabric.controller.world import Look, peer_facts, set_apart
from netfabric.controller.writing import write_status
from netfabric.plan import allocation
from netfabric.plan.model import Own, Problem

log = structlog.get_logger(__name__)

ACTIVE_LABEL = "networking.isthmus.dev/active"
DEBOUNCE_SECONDS = 0.1
MEASURE_SECONDS = 30.0
"""So often measures such as latency are written to a status."""
RESYNC_SECONDS = 60.0
_KEY = "fabric"


class OffloadedPods(Protocol):
    """Says which pods offloading has brought here and there."""

    def of(self, peer: str) -> Offloaded:
        """Those between this cluster and the peer of this name."""


class NobodyOffloads:
    """Where offloading is off."""

    def of(self, peer: str) -> Offloaded:
        """See `OffloadedPods`."""
        return Offloaded()


@dataclass(frozen=True, slots=True, kw_only=True)
class FabricSettings:
    """What the manager knows besides the objects."""

    namespace: str = "isthmus"
    """Where the manager runs; keys, the agents' authority and numbers of links are kept there."""
    agents_namespace: str = "isthmus-network"
    """Where agents run: they need rights over their hosts that pods beside the manager may not have."""
    agent_port: int = 6093
    target: Callable[[Agent], str] | None = None
    """Where an agent is reached, as gRPC writes it; None: at its pod's address and `agent_port`."""


class Fabric:
    """Run `cache_tasks`; then `worker_tasks` while leading. `term` grows with each leader."""

    def __init__(
        self,
        client: Client,
        settings: FabricSettings,
        *,
        offloaded: OffloadedPods,
        check: Callable[[], None],
        term: Callable[[], Awaitable[int]],
        registry: prometheus_client.CollectorRegistry | None = None,
    ) -> None:
        self._client = client
        self._settings = settings
        self._offloaded = offloaded
        self._check = check
        self._ask_term = term
        self._term = 0
        self._began = 0.0
        self._active = ""
        self._credential: Credential | None = None
        self._credential_until = float("-inf")
        self._measured: dict[str, float] = {}
        self._digests: dict[AgentConnection, object] = {}
        self._protected: tuple[str, ...] | None = None
        self._keys = Keys(client, namespace=settings.namespace, check=check)
        self._numbers = Numbers(client, namespace=settings.namespace)
        self._authority = Authority(
            client, namespace=settings.namespace, agents_namespace=settings.agents_namespace, check=check
        )
        self._externals = ExternalStatuses(client, check=check)
        agents = installed.network(settings.agents_namespace, manager=settings.namespace)
        self._guard = Guard(client, agents, check=check)
        self._guarded = True
        """Unless known otherwise: whoever led before may have left it on."""
        self.pool = AgentPool(
            target=settings.target or self._pod_target,
            credential=lambda: self._credential,
            changed=self._heard,
            check=check,
        )
        self.controller: Controller[str] = Controller("fabric", self.reconcile, concurrency=1, registry=registry)
        self.peerings: Reflector[NetworkPeering] = Reflector(
            client, NETWORK_PEERINGS, decode=NetworkPeering, on_change=self._changed, registry=registry
        )
        self.externals: Reflector[ExternalAddress] = Reflector(
            client, EXTERNAL_ADDRESSES, decode=ExternalAddress, on_change=self._changed, registry=registry
        )
        self.nodes: Reflector[Node] = Reflector(
            client, NODES, decode=Node, on_change=self._node_changed, registry=registry
        )
        self.pods: Reflector[Pod] = Reflector(
            client,
            PODS,
            decode=Pod,
            namespace=settings.agents_namespace,
            label_selector=f"{COMPONENT_LABEL} in ({','.join(COMPONENTS)})",
            on_change=self._changed,
            registry=registry,
        )

    def cache_tasks(self) -> list[tuple[str, Reflector[Any]]]:
        """What must be in step before anything is decided."""
        return [
            ("network peerings", self.peerings),
            ("external addresses", self.externals),
            ("nodes' networks", self.nodes),
            ("fabric agents' pods", self.pods),
        ]

    def worker_tasks(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        """What the leader runs."""
        return [("fabric controller", self._work), ("fabric agents", self.pool.run)]

    def reconsider(self) -> None:
        """Something besides the objects changed, such as which pods are offloaded."""
        self.controller.queue.add(_KEY, delay=DEBOUNCE_SECONDS)

    async def _work(self) -> None:
        self._began = time.monotonic()
        self.reconsider()
        await self.controller.run()

    # -- what wakes what

    def _changed(self, _change: Change[Any]) -> None:
        self.reconsider()

    def _node_changed(self, change: Change[Node]) -> None:
        if change.old is None or change.new is None or _where(change.old) != _where(change.new):
            self.reconsider()

    def _heard(self, connection: AgentConnection) -> None:
        digest = sightings.digest(connection)
        if self._digests.get(connection) != digest:
            self._digests[connection] = digest
            self.reconsider()
        else:
            self.controller.queue.add(_KEY, delay=MEASURE_SECONDS)

    # -- the work

    async def reconcile(self, _key: str) -> Result | None:
        """Plan, keep, tell the agents, and say in the statuses how it is."""
        try:
            self._check()
            return await self._look()
        except NotLeader:
            return Result(requeue_after=1.0)

    async def _look(self) -> Result:
        if not self._term:
            self._term = await self._ask_term()
        await self._refresh_credential()
        look = await self._gather()
        await self._label_active(look.agents)
        kept, failed = await self._write(look)
        protected, reached = await self._api_servers(), self._reached(look.agents)
        self._tell(look.world(kept, active=self._active, reached=reached, protected=protected), look.agents)
        await self._keep_installed(look)
        if failed is not None:
            raise failed
        return Result(requeue_after=0.5 if not self._active and look.agents else RESYNC_SECONDS)

    async def _keep_installed(self, look: Look) -> None:
        """Agents are not to be deleted as long as they have anything in a kernel: it would stay. Raises `KubeError`."""
        if look.peerings:
            await self._guard.hold()
            self._guarded = True
        elif self._guarded and all(one.settled for one in self.pool.connections.values()):
            await self._guard.release()
            self._guarded = False

    async def _gather(self) -> Look:
        """All that is known now, with what is new in it numbered and kept."""
        peerings = [one for one in self.peerings.store.values() if one.metadata.deletion_timestamp is None]
        own = declared.own(peerings, self.nodes.store.values())
        plan = allocation.plan(own, map(declared.peer_input, peerings))
        keys = {one.metadata.name: await self._keys.of(one) for one in peerings if one.spec.technology != "None"}
        self._keys.forget(peerings)
        agents = await self._agents()
        self.pool.keep(agents)
        self._active = self._choose(agents)
        exports = await self._externals.keep(own, plan, list(self.externals.store.values()))
        facts = [
            peer_facts(one, plan.peers[name], keys.get(name), offloaded=self._offloaded.of(name), exports=exports)
            for one, name in ((one, one.metadata.name) for one in peerings)
        ]
        apart, clashes = set_apart(facts)
        return Look(
            peerings=peerings,
            own=own,
            plan=plan,
            keys=keys,
            agents=agents,
            facts=apart,
            clashes=clashes,
            pod_networks={one.name: self._pod_networks(one.name, own) for one in agents if one.role == "node"},
        )

    async def _refresh_credential(self) -> None:
        if time.monotonic() >= self._credential_until:
            self._credential = await self._authority.ensure()
            self._credential_until = time.monotonic() + CHECK_SECONDS

    async def _agents(self) -> list[Agent]:
        latest = sightings.addresses(self.pods.store.values())
        names = {role: [name for known, name in latest if known == role] for role in COMPONENTS.values()}
        nodes, gates = await self._numbers.of(nodes=names["node"], gateways=names["gateway"])
        return [
            Agent(
                name=name,
                role=role,
                address=address,
                number=(nodes if role == "node" else gates).get(name, -1),
                capabilities=self._capabilities(role, name),
            )
            for (role, name), address in sorted(latest.items())
        ]

    def _capabilities(self, role: str, name: str) -> frozenset[str]:
        known = self.pool.connections.get((role, name))
        return known.capabilities if known is not None else frozenset()

    def _choose(self, agents: Sequence[Agent]) -> str:
        known = [
            (agent.number, self.pool.connections[agent.role, agent.name])
            for agent in agents
            if agent.role == "gateway" and agent.number >= 0
        ]
        chosen = gateways.choose(known, current=self._active, waited=time.monotonic() - self._began)
        if chosen != self._active:
            log.info("another gateway is active", gateway=chosen or "none", before=self._active or "none")
        return chosen

    async def _label_active(self, agents: Sequence[Agent]) -> None:
        """So that the Service in front of gateways leads to the one that has tunnels. Raises `KubeError`."""
        for agent in agents:
            pod = self.pods.store.get((self._settings.agents_namespace, agent.name))
            if agent.role != "gateway" or pod is None or not self._active:
                continue
            wanted = "true" if agent.name == self._active else None
            if pod.metadata.labels.get(ACTIVE_LABEL) != wanted:
                self._check()
                body = {"metadata": {"uid": pod.metadata.uid, "labels": {ACTIVE_LABEL: wanted}}}
                await self._client.patch(PODS, body, namespace=self._settings.agents_namespace, name=agent.name)

    async def _write(self, look: Look) -> tuple[set[str], KubeError | None]:
        """Names of the peerings whose plan is kept by their status, and the first error of the others."""
        kept: set[str] = set()
        failed: KubeError | None = None
        for peering in look.peerings:
            made = self._status(peering, look)
            try:
                await self._write_one(peering, made)
                kept.add(peering.metadata.name)
            except ApiError as error:
                if error.not_found:
                    continue
                failed = failed or error
                if _same_plan(peering, made):
                    kept.add(peering.metadata.name)
        return kept, failed

    def _status(self, peering: NetworkPeering, look: Look) -> NetworkPeeringStatus:
        name = peering.metadata.name
        key = look.keys.get(name)
        clash = [look.clashes[name]] if name in look.clashes else []
        known = Known(
            plan=look.plan.peers[name],
            problems=[*declared.problems(peering), *look.plan.problems, *clash],
            public_key=key.public_text if isinstance(key, KeyPair) else "",
            key_problem=key if isinstance(key, Problem) else None,
            gateways=self._seen("gateway", look.agents),
            active=self._active,
            active_number=next((one.number for one in look.agents if one.name == self._active), 0),
            nodes=self._seen("node", look.agents),
            without_network=[node for node, networks in look.pod_networks.items() if not networks],
            tunnels=tunnel_keys(look.plan.peers[name], key),
            used=look.tunnels(name),
        )
        return status.status(peering, known, now=datetime.now(UTC))

    def _seen(self, role: str, agents: Sequence[Agent]) -> list[Seen]:
        known = self.pool.connections
        return [sightings.seen(one.name, known.get((role, one.name))) for one in agents if one.role == role]

    async def _write_one(self, peering: NetworkPeering, made: NetworkPeeringStatus) -> None:
        name = peering.metadata.name
        due = time.monotonic() - self._measured.get(name, float("-inf")) >= MEASURE_SECONDS
        if status.alike(peering.status, made) and not due:
            return
        self._measured[name] = time.monotonic()
        await write_status(
            self._client, NETWORK_PEERINGS, peering.metadata, old=peering.status, new=made, check=self._check
        )

    # -- what agents are told

    def _pod_networks(self, node: str, own: Own) -> tuple[str, ...]:
        """A node's own part of the pod networks that are declared."""
        found = self.nodes.store.get(("", node))
        return declared.pod_networks(found, own) if found is not None else ()

    def _reached(self, agents: Sequence[Agent]) -> frozenset[str]:
        """Nodes that the active gateway reaches."""
        nodes = {agent.name: agent.number for agent in agents if agent.role == "node"}
        return sightings.reached(self.pool.connections.get(("gateway", self._active)), nodes)

    async def _api_servers(self) -> tuple[str, ...]:
        """The addresses by which pods reach this cluster's API server: peers never do."""
        if self._protected is None:
            found = await self._client.get(SERVICES, namespace="default", name="kubernetes")
            self._protected = tuple(found["spec"].get("clusterIPs") or (found["spec"]["clusterIP"],))
        return self._protected

    def _tell(self, known: World, agents: Sequence[Agent]) -> None:
        reported = [one.state.applied.term for one in self.pool.connections.values() if one.state is not None]
        if max(reported, default=0) > self._term:
            # We lead for sure; a Lease that was made anew counts from the beginning.
            self._term = max(reported) + 1
        for agent in agents:
            connection = self.pool.connections[agent.role, agent.name]
            if connection.state is None and not connection.connected:
                continue  # what it can do is not known yet
            make = desired.gateway if agent.role == "gateway" else desired.node
            connection.want(make(known, agent), term=self._term)

    def _pod_target(self, agent: Agent) -> str:
        host = f"[{agent.address}]" if ":" in agent.address else agent.address
        return f"{host}:{self._settings.agent_port}"


def _where(node: Node) -> object:
    return (node.metadata.uid, node.spec, node.addresses)


def _same_plan(peering: NetworkPeering, made: NetworkPeeringStatus) -> bool:
    old = peering.status
    ports = [tuple(one.port for one in shown.tunnels) for shown in (old, made)]
    return (old.networks, old.number, old.port, ports[0]) == (made.networks, made.number, made.port, ports[1])
