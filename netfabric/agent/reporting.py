"""What the agent knows about itself, as messages of the contract. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from netfabric._pb import fabric_pb2 as pb
from netfabric.agent import peerchains, tunnels, wireguard
from netfabric.agent.kernel import KernelState
from netfabric.agent.model import Desired, Link, Role
from netfabric.agent.netlink import LinkReport
from netfabric.agent.probing import Measured
from netfabric.agent.reconcile import Applied
from netfabric.agent.tables import Count
from netfabric.agent.wireguard import Report

ROLES = {Role.GATEWAY: pb.ROLE_GATEWAY, Role.NODE: pb.ROLE_NODE, Role.PROBE: pb.ROLE_PROBE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that is told, at one moment."""

    name: str
    role: Role
    version: str
    contract: int
    capabilities: tuple[str, ...]
    desired: Desired | None
    applied: Applied | None
    repairs: int
    wanted: KernelState
    links: Mapping[str, LinkReport]
    wireguard: Mapping[str, Report]
    probes: tuple[Measured, ...]
    counts: Mapping[str, Count]
    at: float


def applied_message(applied: Applied | None, *, repairs: int) -> pb.AppliedState:
    """What came of the last pass; empty if there was none."""
    if applied is None:
        return pb.AppliedState()
    return pb.AppliedState(
        term=applied.version[0],
        generation=applied.version[1],
        problems=[pb.Problem(object=p.object, reason=p.reason, message=p.message) for p in applied.problems],
        at=timestamp(applied.at),
        repairs=repairs,
    )


def state_message(snapshot: Snapshot) -> pb.AgentState:
    """The state of an agent."""
    desired = snapshot.desired
    return pb.AgentState(
        contract=snapshot.contract,
        agent=snapshot.name,
        role=ROLES[snapshot.role],
        version=snapshot.version,
        capabilities=snapshot.capabilities,
        applied=applied_message(snapshot.applied, repairs=snapshot.repairs),
        links=[_link(link, snapshot) for link in desired.links] if desired else [],
        probes=[_probe(measured) for measured in snapshot.probes],
        counters=_counters(snapshot),
        at=timestamp(snapshot.at),
        standby=bool(desired and desired.standby),
    )


def timestamp(seconds: float) -> Timestamp | None:
    """Of Unix time; None for 0, which means never."""
    if not seconds:
        return None
    made = Timestamp()
    made.FromMicroseconds(round(seconds * 1e6))
    return made


def _link(link: Link, snapshot: Snapshot) -> pb.LinkState:
    figures = snapshot.links.get(link.name, LinkReport(False, 0, 0, 0))
    report = snapshot.wireguard.get(link.name, Report())
    return pb.LinkState(
        name=link.name,
        technology=tunnels.technology(link, snapshot.wanted.links.get(link.name)),
        up=figures.up,
        mtu=figures.mtu,
        received_bytes=figures.received,
        sent_bytes=figures.sent,
        listen_port=report.listen_port,
        wireguard_peers=[
            pb.WireGuardPeerState(
                public_key=key,
                endpoint=wireguard.endpoint_text(peer.endpoint) if peer.endpoint else "",
                last_handshake=timestamp(peer.handshake),
                received_bytes=peer.received,
                sent_bytes=peer.sent,
            )
            for key, peer in report.peers.items()
        ],
    )


def _probe(measured: Measured) -> pb.ProbeState:
    return pb.ProbeState(
        name=measured.target.name,
        peer=measured.target.peer,
        passing=measured.passing,
        loss=measured.loss,
        latency_microseconds=round(measured.latency * 1e6),
        smoothed_latency_microseconds=round(measured.smoothed * 1e6),
        path_mtu=measured.path_mtu,
        last_answer=timestamp(measured.last_answer),
        since=timestamp(measured.since),
        full_size_lost=measured.full_size_lost,
        settled=measured.settled,
    )


def _counters(snapshot: Snapshot) -> Iterator[pb.Counter]:
    names = peerchains.counters(snapshot.desired) if snapshot.desired else {}
    for name, count in sorted(snapshot.counts.items()):
        if name in names:
            reason, peer = names[name]
            yield pb.Counter(name=f"dropped-{reason}", peer=peer, packets=count.packets, bytes=count.bytes)
