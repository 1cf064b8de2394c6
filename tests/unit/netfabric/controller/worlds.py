"""Worlds of any size, planned as the controller plans them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from netfabric.controller import keys
from netfabric.controller.facts import Agent, Offloaded, PeerFacts, World
from netfabric.controller.world import set_apart
from netfabric.plan import external, probes
from netfabric.plan.allocation import plan
from netfabric.plan.model import Kind, Own, PeerInput, PeerPlan
from netfabric.plan.spans import span

CAPABLE = frozenset({"geneve", "vxlan"})
OWN = Own(
    networks=(
        (Kind.POD, span("10.0.0.0/16")),
        (Kind.POD, span("fd00:10::/56")),
        (Kind.SERVICE, span("10.96.0.0/16")),
        (Kind.EXTERNAL, span("10.250.0.0/24")),
    )
)


def key(name: str) -> keys.KeyPair:
    """A key pair that is the same each time."""
    return keys.pair(hashlib.sha256(name.encode()).digest())


def nodes(count: int, *, capabilities: frozenset[str] = CAPABLE) -> tuple[Agent, ...]:
    return tuple(
        Agent(
            name=f"node-{n}",
            role="node",
            address=f"192.168.{n >> 8}.{n & 255}",
            number=n + 1,
            capabilities=capabilities,
        )
        for n in range(count)
    )


def gateways(count: int, *, capabilities: frozenset[str] = CAPABLE) -> tuple[Agent, ...]:
    return tuple(
        Agent(name=f"gw-{n}", role="gateway", address=f"10.0.255.{n + 1}", number=n, capabilities=capabilities)
        for n in range(count)
    )


def facts(planned: PeerPlan, **more: object) -> PeerFacts:
    ours, theirs = key(f"ours-{planned.name}"), key(f"theirs-{planned.name}")
    given: dict[str, object] = {
        "name": planned.name,
        "number": planned.number,
        "port": planned.port,
        "networks": planned.open,
        "public_key": ours.public,
        "private_key": ours.private,
        "peer_key": theirs.public,
        "endpoint": "gw.example.org:51820",
        "probed": probes.addresses(str(one.mapping.outer) for one in planned.open if one.kind is Kind.POD),
        **more,
    }
    return PeerFacts(**given)  # type: ignore[arg-type] # as the class has them


def world(inputs: Sequence[PeerInput], *, own: Own = OWN, count: int = 2, whole: bool = True) -> World:
    """All agents that can be linked, and the peers of this plan."""
    planned = plan(own, inputs)
    peers, _ = set_apart(facts(one, whole=whole, offloaded=Offloaded()) for one in planned.peers.values())
    every = nodes(count)
    return World(
        own=tuple((kind, str(one)) for kind, one in own.networks),
        nodes=every,
        gateways=gateways(2),
        active="gw-0",
        pod_networks={one.name: (f"10.0.{one.number}.0/24",) for one in every},
        peers=tuple(peers),
        sources=external.sources(own),
        protected=("10.96.0.1",),
    )


def sized(peers: int, *, nodes: int, capabilities: frozenset[str] = CAPABLE, technology: str = "WireGuard") -> World:
    """So many peers with our own addresses, each dialled at an address of its own, and so many nodes."""
    known = world(alike(peers), count=nodes)
    if len(known.peers) != peers:
        raise ValueError(f"two of {peers} tunnels have the same addresses: take another number")
    return replace(
        known,
        nodes=tuple(replace(one, capabilities=capabilities) for one in known.nodes),
        gateways=gateways(2, capabilities=capabilities),
        peers=tuple(
            replace(one, technology=technology, endpoint=f"198.18.{one.number >> 8}.{one.number & 255}:51820")
            for one in known.peers
        ),
    )


def alike(count: int) -> list[PeerInput]:
    """So many peers with networks that are the same as ours."""
    return [
        PeerInput(
            name=f"peer-{n}",
            networks=(
                (Kind.POD, span("10.0.0.0/16")),
                (Kind.SERVICE, span("10.96.0.0/16")),
                (Kind.POD, span("fd00:10::/56")),
            ),
        )
        for n in range(count)
    ]
