"""The desired state of an agent as plain data: what proto/isthmus/fabric/v1 says, read and checked (by `reading`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Interface: TypeAlias = IPv4Interface | IPv6Interface
Network: TypeAlias = IPv4Network | IPv6Network

OVERLAY_PORT = 6091


class Role(Enum):
    """What the agent is for."""

    GATEWAY = "gateway"
    NODE = "node"
    PROBE = "probe"


class Overlay(Enum):
    """Technologies of tunnels inside a cluster."""

    GENEVE = "geneve"
    VXLAN = "vxlan"


class WireGuardKind(Enum):
    """Who implements WireGuard."""

    KERNEL = "kernel"
    USERSPACE = "user-space"


@dataclass(frozen=True, slots=True)
class Key:
    """A secret: a file's path, or 32 bytes."""

    file: str = ""
    value: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WireGuardPeer:
    """One other end of a WireGuard interface."""

    public_key: bytes
    preshared_key: Key | None = None
    endpoint: tuple[str, int] | None = None
    """Host (name or address) and port; None: it dials in."""
    allowed_ips: tuple[Network, ...] = ()
    keepalive: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WireGuardLink:
    """A WireGuard interface."""

    private_key: Key
    listen_port: int = 0
    kind: WireGuardKind | None = None
    """None: the kernel's where there is one."""
    peers: tuple[WireGuardPeer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlayLink:
    """One end of a tunnel inside the cluster."""

    technology: Overlay | None
    """None: GENEVE where the kernel has it."""
    local: Address
    remote: Address
    vni: int
    port: int = OVERLAY_PORT


@dataclass(frozen=True, slots=True)
class ThirdPartyLink:
    """An interface that is made by something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An interface and what it carries."""

    name: str
    addresses: tuple[Interface, ...] = ()
    mtu: int = 0
    neighbours: tuple[Address, ...] = ()
    kind: WireGuardLink | OverlayLink | ThirdPartyLink


@dataclass(frozen=True, slots=True)
class PrefixMap:
    """A range as the other cluster calls it, and as this one does."""

    real: Network
    seen: Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Who may open flows; see the contract."""

    reachable: tuple[Network, ...] = ()
    unreachable: tuple[Network, ...] = ()
    openers: tuple[Network, ...] = ()
    sources: tuple[Network, ...] = ()
    destinations: tuple[Network, ...] = ()
    transit: tuple[str, ...] = ()
    probed: tuple[Address, ...] = ()
    askers: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another cluster, as a gateway sees it."""

    name: str
    number: int
    links: tuple[str, ...]
    prefixes: tuple[PrefixMap, ...] = ()
    policy: Policy = field(default_factory=Policy)

    def overlaps(self, other: Peer) -> bool:
        """Whether both have an address of the same real name, so that flows must be kept apart by zone."""
        return any(overlap(a.real, b.real) for a in self.prefixes for b in other.prefixes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route of the main table."""

    prefix: Network
    link: str
    via: Address | None = None
    source: Address | None = None
    inside: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Something here that peers reach at another address."""

    shown: Network
    target: Network
    masquerade: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeAnswer:
    """Where peers' pods ask, and who answers."""

    shown: Address
    target: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Masquerade:
    """Sources that get another address on a link."""

    link: str
    keep: tuple[Network, ...]
    address: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeTarget:
    """A path that is measured all the time; times in seconds."""

    name: str
    address: Address
    port: int
    source: Address | None = None
    peer: str = ""
    interval: float = 1.0
    lost_after: int = 4
    passing_after: int = 1
    full_size_every: int = 0
    """0: now and then, and nothing is made of its loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """All that one agent is to have."""

    term: int
    generation: int
    role: Role
    standby: bool = False
    links: tuple[Link, ...] = ()
    peers: tuple[Peer, ...] = ()
    routes: tuple[Route, ...] = ()
    local_prefixes: tuple[Network, ...] = ()
    exports: tuple[Export, ...] = ()
    masquerades: tuple[Masquerade, ...] = ()
    keep_sources: tuple[Network, ...] = ()
    probes: tuple[ProbeTarget, ...] = ()
    responder_port: int = 0
    responder_addresses: tuple[Address, ...] = ()
    probe_answers: tuple[ProbeAnswer, ...] = ()

    @property
    def version(self) -> tuple[int, int]:
        """What orders states."""
        return self.term, self.generation

    def peer_of(self, link: str) -> Peer | None:
        """The peer that a link leads to."""
        return next((peer for peer in self.peers if link in peer.links), None)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is not as desired, and why."""

    object: str
    reason: str
    message: str


def overlap(one: Network, other: Network) -> bool:
    """Whether two ranges share an address; ranges of different families never do."""
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.overlaps(other)
    return isinstance(other, IPv6Network) and one.overlaps(other)


def within(part: Network, whole: Network) -> bool:
    """Whether `part` lies in `whole`."""
    if isinstance(part, IPv4Network):
        return isinstance(whole, IPv4Network) and part.subnet_of(whole)
    return isinstance(whole, IPv6Network) and part.subnet_of(whole)
