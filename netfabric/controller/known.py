"""What is known when a NetworkPeering's status is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from netfabric._pb import fabric_pb2 as pb
from netfabric.controller.keys import KeyPair
from netfabric.plan.model import PeerPlan, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An agent as the controller sees it."""

    name: str
    connected: bool = False
    current: bool = False
    """Whether it has applied what it shall have."""
    problem: str = ""
    """Why it is not connected, or what it refused."""
    state: pb.AgentState | None = None


@dataclass(frozen=True, slots=True)
class TunnelKey:
    """One of several tunnels as this side has it."""

    port: int
    public_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """All that one status is made of."""

    plan: PeerPlan
    problems: Sequence[Problem] = ()
    """What is missing from the declaration, and what is wrong with this cluster's own."""
    public_key: str = ""
    key_problem: Problem | None = None
    gateways: Sequence[Seen] = ()
    active: str = ""
    active_number: int = 0
    """Of the active gateway."""
    nodes: Sequence[Seen] = ()
    without_network: Sequence[str] = ()
    """Nodes whose pods have no network of their own."""
    tunnels: Sequence[TunnelKey] = ()
    """What this side has, if that is more than one."""
    used: Sequence[int] = (0,)
    """Numbers of the tunnels that gateways shall have; none: the peering is not good enough yet."""


def tunnel_keys(planned: PeerPlan, key: KeyPair | Problem | None) -> tuple[TunnelKey, ...]:
    """All tunnels of a peering, if there are several."""
    if not isinstance(key, KeyPair) or not planned.port or not planned.further_ports:
        return ()
    ports = (planned.port, *planned.further_ports)
    return tuple(TunnelKey(port, key.tunnel(number).public_text) for number, port in enumerate(ports))
