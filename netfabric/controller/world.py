"""From objects, plan and keys to what the agents' states are computed from. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from api.networking.peering import NetworkPeering
from netfabric.controller import declared, links
from netfabric.controller.external import Exports
from netfabric.controller.facts import Agent, Offloaded, PeerFacts, World
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

    Both clusters make a tunnel's addresses from its keys, so two may come to the same: the older one stays.
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
    return kept, problems


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
