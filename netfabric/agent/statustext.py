"""An agent's state as text for people. Pure. docs/network.md says what each line means and what to do about it."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from netfabric._pb import fabric_pb2 as pb

_SILENT_SECONDS = 180
_ROLE = {pb.ROLE_GATEWAY: "gateway", pb.ROLE_NODE: "node", pb.ROLE_PROBE: "probe"}


def render(state: pb.AgentState) -> tuple[str, bool]:
    """(text, whether all is well)."""
    lines = [*_head(state), *_links(state), *_paths(state), *_counters(state), *_problems(state)]
    return "\n".join(lines) + "\n", is_well(state)


def is_well(state: pb.AgentState) -> bool:
    """A state is applied without problems, links are up and paths pass."""
    up = all(link.up for link in state.links) or state.standby
    passing = all(probe.passing and not probe.full_size_lost for probe in state.probes)
    return bool(state.applied.generation) and not state.applied.problems and up and passing


def _head(state: pb.AgentState) -> Iterator[str]:
    role = _ROLE.get(state.role, "?") + (" (standby)" if state.standby else "")
    yield f"agent       {state.agent}   {role}   isthmus {state.version}, contract {state.contract}"
    applied = state.applied
    if applied.generation:
        yield f"applied     generation {applied.generation} of term {applied.term}, {applied.repairs} repairs"
    else:
        yield "applied     nothing yet: the controller has sent no state"
    yield f"can         {', '.join(state.capabilities)}"


def _links(state: pb.AgentState) -> Iterator[str]:
    for link in state.links:
        up = "up" if link.up else "DOWN"
        yield (
            f"link        {link.name:<15} {link.technology:<23} {up:<5} mtu {link.mtu}   "
            f"in {_bytes(link.received_bytes)} out {_bytes(link.sent_bytes)}"
        )
        for peer in link.wireguard_peers:
            yield f"  peer      {base64.b64encode(peer.public_key).decode()[:12]}  {_handshake(peer, state)}"


def _handshake(peer: pb.WireGuardPeerState, state: pb.AgentState) -> str:
    where = peer.endpoint or "(dials in, not heard yet)"
    if not peer.HasField("last_handshake"):
        return f"{where}   handshake NEVER"
    age = state.at.seconds - peer.last_handshake.seconds
    late = "   SILENT" if age > _SILENT_SECONDS else ""
    return f"{where}   handshake {age} s ago{late}"


def _paths(state: pb.AgentState) -> Iterator[str]:
    for probe in state.probes:
        verdict = _verdict(probe)
        since = state.at.seconds - probe.since.seconds
        size = f"mtu {probe.path_mtu}" if probe.path_mtu else "mtu ?"
        yield (
            f"path        {probe.name:<15} {verdict:<7} for {since} s   "
            f"{probe.smoothed_latency_microseconds / 1000:.2f} ms   loss {probe.loss:.0%}   {size}"
        )


def _verdict(probe: pb.ProbeState) -> str:
    if probe.full_size_lost:
        return "SMALL PACKETS ONLY"
    if probe.passing:
        return "passes"
    return "BROKEN"


def _counters(state: pb.AgentState) -> Iterator[str]:
    for counter in state.counters:
        if counter.packets:
            by = f" from {counter.peer}" if counter.peer else ""
            yield f"dropped     {counter.name.removeprefix('dropped-'):<15} {counter.packets} packets{by}"


def _problems(state: pb.AgentState) -> Iterator[str]:
    for problem in state.applied.problems:
        yield f"PROBLEM     {problem.object}: {problem.reason}: {problem.message}"


def _bytes(number: int) -> str:
    size = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
