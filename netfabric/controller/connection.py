"""How the tunnels to a peer are, from what the active gateway measures. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from api.meta import Condition
from api.networking.peering import Connection, ConnectionState, NetworkPeering, Tunnel
from netfabric._pb import fabric_pb2 as pb
from netfabric.controller import desired, links
from netfabric.controller.known import Known, Seen

FRESH_HANDSHAKE_SECONDS = 180.0
"""WireGuard agrees on new keys every two minutes while packets flow; one that is older is over (its paper, 6.2)."""
SHARING = "TunnelsShared"
"""A condition that is there where one side or the other declares several tunnels."""


def connection(peering: NetworkPeering, known: Known, *, now: datetime) -> Connection | None:
    """That of the first tunnel by which the peer answers; if it does by none, of the first."""
    made = [one for one in (_of(number, peering, known, now=now) for number in known.used or (0,)) if one is not None]
    return next((one for one in made if one.state == "Connected"), made[0] if made else None)


def tunnels(peering: NetworkPeering, known: Known, *, now: datetime) -> tuple[Tunnel, ...]:
    """All that this side has, if that is more than one."""
    found = []
    for number, key in enumerate(known.tunnels):
        one = _of(number, peering, known, now=now) if number in known.used else None
        state = one.state if one is not None else "Unknown"
        found.append(Tunnel(port=key.port, public_key=key.public_key, state=state))
    return tuple(found)


def sharing(peering: NetworkPeering, known: Known, shown: Sequence[Tunnel]) -> Condition | None:
    """Whether flows are spread over as many tunnels as both sides declare; None: over the one that there is.

    What is amiss here slows flows down and stops none, so `Ready` does not depend on it.
    """
    ours, name = max(1, len(shown)), peering.metadata.name
    theirs = 1 + len(peering.spec.peer.tunnels) if peering.spec.peer is not None else 1
    if ours == theirs == 1:
        return None
    if not known.used:
        return Condition(type=SHARING, status="Unknown", reason="NotConnected", message="see condition Accepted")
    reason, message = "AllPass", f"{ours} tunnels share the flows"
    if ours != theirs:
        reason = "PeerHasFewer" if theirs < ours else "PeerHasMore"
        told = f"spec.tunnels is {ours} here and {name} has told of {theirs}, so {min(ours, theirs)} are used"
        message = f"{told}; declare the same on both sides and exchange the halves anew"
    elif len(known.used) < ours:
        reason = "TunnelLeftOut"
        message = f"{len(known.used)} of {ours} can be had: another has the port, key or addresses of the rest"
    elif cannot := [one.name for one in known.gateways if one.state is not None and not _parallel(one.state)]:
        reason, message = "GatewayCannot", f"{', '.join(cannot)}: its version or kernel has one tunnel for a peer only"
    elif all(one.state != "Connected" for one in shown):
        return Condition(type=SHARING, status="Unknown", reason="NotConnected", message="see condition Connected")
    elif broken := [str(one.port) for one in shown if one.state != "Connected"]:
        reason = "TunnelsBroken"
        message = f"no answer by {len(broken)} of {ours}, on port {', '.join(broken)} here: flows go by the others"
    return Condition(
        type=SHARING, status="True" if reason == "AllPass" else "False", reason=reason, message=message[:1024]
    )


def _parallel(state: pb.AgentState) -> bool:
    return desired.PARALLEL in state.capabilities


def _of(number: int, peering: NetworkPeering, known: Known, *, now: datetime) -> Connection | None:
    active = next((one for one in known.gateways if one.name == known.active), None)
    if active is None or active.state is None or not known.plan.number:
        return None
    name = links.peer_link(known.plan.number, tunnel=number)
    link = next((one for one in active.state.links if one.name == name), None)
    if link is None:
        return Connection(state="Unknown", gateway=active.name)
    probe = next((one for one in active.state.probes if one.name == name), None)
    other = link.wireguard_peers[0] if link.wireguard_peers else None
    shaken = other.last_handshake.ToDatetime(UTC) if other is not None and other.HasField("last_handshake") else None
    endpoint = other.endpoint if other is not None else ""
    if not endpoint and peering.spec.peer is not None and peering.spec.peer.endpoints:
        endpoint = peering.spec.peer.endpoints[0]
    return Connection(
        state=_state(active, probe, shaken, tunnel=other is not None, now=now),
        gateway=active.name,
        endpoint=endpoint,
        latency=_latency(probe.smoothed_latency_microseconds) if probe is not None else "",
        loss_percent=round(100 * probe.loss) if probe is not None else 0,
        mtu=(probe.path_mtu if probe is not None else 0) or link.mtu,
        last_handshake=shaken.strftime("%Y-%m-%dT%H:%M:%SZ") if shaken is not None else "",
        technology=link.technology,
    )


def _state(
    active: Seen, probe: pb.ProbeState | None, shaken: datetime | None, *, tunnel: bool, now: datetime
) -> ConnectionState:
    if not active.connected:
        return "Unknown"
    if probe is not None and probe.passing:
        return "Connected"
    if tunnel and shaken is None:
        return "Connecting"
    if probe is None or not probe.HasField("last_answer"):
        fresh = shaken is not None and (now - shaken).total_seconds() <= FRESH_HANDSHAKE_SECONDS
        return "Connecting" if fresh or not tunnel else "Disconnected"
    return "Disconnected"


def _latency(microseconds: int) -> str:
    """Two digits, so that a status does not change with every breath."""
    if not microseconds:
        return ""
    if microseconds < 10_000:
        return f"{microseconds / 1000:.1f}ms"
    return f"{float(f'{microseconds / 1000:.2g}'):.0f}ms"
