"""From objects, plan and keys to what the agents' states are computed from. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from api.networking.peering import NetworkPeering, PeerSide
from netfabric.controller import declared, links
from netfabric.controller.external import Exports
from netfabric.controller.facts import Agent, Offloaded, PeerFacts, TunnelFacts, World
from netfabric.controller.keys import KeyPair, public_key
from netfabric.plan import external
from netfabric.plan.model import Kind, Own, PeerPlan, Plan, Problem
from netfabric.plan.spans import Span, host


def peer_facts(
    peering: NetworkPeering,
    planned: PeerPlan,
    key: KeyPair | Problem | None,
    *,
    offloaded: Offloaded,
    exports: Exports,
) -> PeerFacts | None:
    """What agents need of a peering; None if it is not good enough to be told, or needs no agents."""
    spec, name = peering.spec, peering.metadata.name
    if spec.peer is None or not isinstance(key, KeyPair) or not planned.number or not planned.port:
        return None
    theirs = public_key(spec.peer.public_key or "")
    if theirs is None or theirs == key.public or any(declared.problems(peering)):
        return None
    return PeerFacts(
        name=name,
        number=planned.number,
        port=planned.port,
        networks=planned.open,
        technology=spec.technology,
        mtu=spec.mtu or 0,
        public_key=key.public,
        private_key=key.private,
        peer_key=theirs,
        endpoint=spec.peer.endpoints[0] if spec.peer.endpoints else "",
        dials=bool(spec.peer.endpoints) and not (spec.local and spec.local.endpoints),
        whole=spec.traffic_policy == "WholeCluster",
        offloaded=offloaded,
        probed=_probed(planned, spec.peer.probe_addresses),
        exports=tuple((shown, real) for shown, real, peers in exports.values() if not peers or name in peers),
        further=tuple(_further(spec.peer, planned, key)),
    )


def _further(peer: PeerSide, planned: PeerPlan, key: KeyPair) -> Iterator[TunnelFacts]:
    """Tunnels behind the first, as many as both sides have."""
    host, _, first = peer.endpoints[0].rpartition(":") if peer.endpoints else ("", "", "")
    for number, (port, told) in enumerate(zip(planned.further_ports, peer.tunnels, strict=False), start=1):
        theirs, ours = public_key(told.public_key), key.tunnel(number)
        if theirs is not None and theirs != ours.public and port:
            yield TunnelFacts(
                number=number,
                port=port,
                public_key=ours.public,
                private_key=ours.private,
                peer_key=theirs,
                endpoint=f"{host}:{told.port or int(first) + number}" if host else "",
            )


def _probed(planned: PeerPlan, told: Iterable[str]) -> tuple[str, ...]:
    """What of it is an address of the peer's pods; anything else would be a hole in the policy."""
    pods = [one.mapping.outer for one in planned.open if one.kind is Kind.POD]
    return tuple(address for address in told if any(pod.holds(one) for one in _host(address) for pod in pods))


def _host(address: str) -> list[Span]:
    """None, if it was stored before the schema refused what is no address."""
    try:
        return [host(address)]
    except ValueError:
        return []


def set_apart(peers: Iterable[PeerFacts | None]) -> tuple[list[PeerFacts], dict[str, Problem]]:
    """Peers whose tunnels have addresses of their own, and the problems of those whose have not.

    Both clusters make a tunnel's addresses from its keys, so two may come to the same: the older one stays. A tunnel
    behind a peer's first is only left out: the others carry what it would.
    """
    kept: list[PeerFacts] = []
    owners: dict[str, str] = {}
    problems: dict[str, Problem] = {}
    for peer in sorted((one for one in peers if one is not None), key=lambda one: one.number):
        address = min(links.tunnel(peer.public_key, peer.peer_key)[:2])
        if address in owners:
            told = f"its tunnel would have the addresses of that to {owners[address]}; make a new key and exchange it"
            problems[peer.name] = Problem("TunnelAddressTaken", told)
        else:
            owners[address] = peer.name
            kept.append(peer)
    return [replace(peer, further=tuple(_apart(peer, owners))) for peer in kept], problems


def _apart(peer: PeerFacts, owners: dict[str, str]) -> Iterator[TunnelFacts]:
    for tunnel in peer.further:
        address = min(links.tunnel(tunnel.public_key, tunnel.peer_key)[:2])
        if address not in owners:
            owners[address] = peer.name
            yield tunnel


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """All that was known at one moment, and what was made of it."""

    peerings: Sequence[NetworkPeering]
    own: Own
    plan: Plan
    keys: Mapping[str, KeyPair | Problem]
    """By peering; none where the technology needs no keys."""
    agents: Sequence[Agent]
    facts: Sequence[PeerFacts]
    clashes: Mapping[str, Problem]
    pod_networks: Mapping[str, tuple[str, ...]]
    """By node."""

    def tunnels(self, peering: str) -> tuple[int, ...]:
        """Numbers of the tunnels that gateways shall have to a peer; none, if they are not told of it."""
        return tuple(one.number for peer in self.facts if peer.name == peering for one in peer.tunnels)

    def world(
        self, kept: Collection[str], *, active: str, reached: frozenset[str], protected: tuple[str, ...]
    ) -> World:
        """What agents are told of: peers whose plan is `kept`, in an order that does not depend on who was first."""
        return World(
            own=tuple((kind, str(span)) for kind, span in self.own.networks),
            nodes=tuple(agent for agent in self.agents if agent.role == "node"),
            gateways=tuple(agent for agent in self.agents if agent.role == "gateway"),
            active=active,
            pod_networks=self.pod_networks,
            peers=tuple(sorted((one for one in self.facts if one.name in kept), key=lambda one: one.name)),
            sources=external.sources(self.own),
            reached=reached,
            protected=protected,
        )
