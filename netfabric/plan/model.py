"""What the address plan is made from and what it comes to."""

from __future__ import annotations

from collections.abc import Mapping as Map
from dataclasses import dataclass, field
from enum import IntEnum

from netfabric.plan.spans import Mapping, Span, spans

DEFAULT_POOLS = tuple(spans(["100.64.0.0/10", "10.128.0.0/9", "172.16.0.0/12", "fd69:7374::/32"]))
"""Where stand-ins are taken from: shared address space first (RFC 6598), which few clusters use; a prefix of our own
of the local IPv6 addresses (RFC 4193)."""
UNFIT = tuple(
    spans(
        [
            *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"),
            *("::/96", "::ffff:0:0/96", "fe80::/10", "ff00::/8"),
        ]
    )
)
"""Addresses that no pod of another cluster has (RFC 6890, RFC 4291)."""
SHORTEST_PREFIX = {4: 8, 6: 16}
"""A shorter one would draw more of the world into the fabric than any cluster has."""
FIRST_PORT = 51820
"""What WireGuard uses by custom; other peers have the ports behind it."""


MOST_NUMBER = 4095
INTERNAL = tuple(spans(["169.254.0.0/16", "fd69:7375::/32"]))
"""What the fabric's own links have addresses of; never a pod's, a node's or a peer's."""


class Kind(IntEnum):
    """What has its addresses in a network; of two that overlap, the first of these counts."""

    POD = 0
    SERVICE = 1
    EXTERNAL = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something is not done: `reason` in CamelCase, `message` for a person, with what to do."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Own:
    """What this cluster has. All of it is kept free of peers."""

    networks: tuple[tuple[Kind, Span], ...] = ()
    reserved: tuple[tuple[str, Span], ...] = ()
    """What else is reached from here, each with a name for people: node networks, node addresses, tunnels' ends."""

    def named(self) -> list[tuple[str, Span]]:
        """Everything, with names for people."""
        return [*((f"this cluster's {name(kind)}", span) for kind, span in self.networks), *self.reserved]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerInput:
    """One peering as declared, and what its status holds."""

    name: str
    order: tuple[str, str] = ("", "")
    """Of two that want the same, the lower one has it: time of creation, then name."""
    networks: tuple[tuple[Kind, Span], ...] = ()
    pins: Map[Span, Span] = field(default_factory=dict)
    held: Map[Span, Span] = field(default_factory=dict)
    """What stands for a network of the peer by the last plan."""
    pools: tuple[Span, ...] = DEFAULT_POOLS
    translates: bool = True
    """Whether packets pass a gateway of ours that can translate them."""
    port: int | None = None
    held_port: int = 0
    tunnels: int = 1
    """How many there are to be between the gateways."""
    held_further: tuple[int, ...] = ()
    """Ports of the tunnels behind the first."""
    held_number: int = 0


@dataclass(frozen=True, slots=True)
class Planned:
    """One network of a peer: as it declares it, and as it is seen here. With a problem, nothing passes."""

    kind: Kind
    mapping: Mapping
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class PeerPlan:
    """What one peering gets."""

    name: str
    networks: tuple[Planned, ...] = ()
    """In the order of their kinds and addresses, those that must be remembered though nothing passes included."""
    problems: tuple[Problem, ...] = ()
    """Everything that is not as declared, those of networks included."""
    port: int = 0
    number: int = 0
    """1 to 4095: tells its packets from those of others in a gateway; 0: there was none left."""
    further_ports: tuple[int, ...] = ()
    """Of the tunnels behind the first."""

    @property
    def open(self) -> tuple[Planned, ...]:
        """Networks that packets may pass to and from."""
        return tuple(one for one in self.networks if one.problem is None)

    def mappings(self) -> tuple[Mapping, ...]:
        """From the peer's own addresses to those by which it is seen here."""
        return tuple(one.mapping for one in self.open)


@dataclass(frozen=True, slots=True)
class Plan:
    """Of all peers."""

    peers: Map[str, PeerPlan]
    problems: tuple[Problem, ...] = ()
    """Of this cluster's own networks."""


def name(kind: Kind) -> str:
    """For people."""
    return {Kind.POD: "pod network", Kind.SERVICE: "service network", Kind.EXTERNAL: "external network"}[kind]
