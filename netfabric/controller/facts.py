"""What is known of this cluster when the agents' states are computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from netfabric.plan.model import Kind, Planned


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """A pod that runs an agent."""

    name: str
    """What it calls itself: the pod's name at a gateway, the node's at a node."""
    role: str
    """`gateway` or `node`."""
    address: str
    """Where it is reached, and its end of links inside the cluster."""
    number: int = 0
    """Kept for life: 1 to 2047 for nodes, 0 to 3 for gateways; -1: there was none left."""
    capabilities: frozenset[str] = frozenset()
    """Empty as long as it has not been heard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offloaded:
    """Pods that offloading has brought to where they are, by address."""

    here: frozenset[str] = frozenset()
    """The peer's pods in this cluster."""
    there: frozenset[str] = frozenset()
    """Ours at the peer, as seen here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelFacts:
    """One tunnel of a peering."""

    number: int
    """From 0; both sides count alike."""
    port: int
    """Where our gateway listens."""
    public_key: bytes
    """Ours."""
    private_key: bytes = field(repr=False)
    peer_key: bytes
    endpoint: str
    """Empty: the peer dials in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerFacts:
    """One peering that is good enough to be told to agents."""

    name: str
    number: int
    port: int
    networks: tuple[Planned, ...]
    """Those that packets may pass to and from."""
    technology: str = "WireGuard"
    mtu: int = 0
    """0: to be found."""
    public_key: bytes = b""
    """Ours."""
    private_key: bytes = field(default=b"", repr=False)
    peer_key: bytes = b""
    endpoint: str = ""
    """Empty: the peer dials in."""
    dials: bool = False
    """Whether nobody can dial us, so that we must keep the way back open."""
    whole: bool = False
    """Whether all of both clusters may talk, not only what offloading needs."""
    offloaded: Offloaded = Offloaded()
    exports: tuple[tuple[str, str], ...] = ()
    """Addresses that the peer may reach outside this cluster: what stands for them, and where they are."""
    probed: tuple[str, ...] = ()
    """Where the peer answers probes, as it calls it."""
    further: tuple[TunnelFacts, ...] = ()
    """Tunnels behind the first that both sides have."""

    @property
    def tunnels(self) -> tuple[TunnelFacts, ...]:
        """All of them."""
        first = TunnelFacts(
            number=0,
            port=self.port,
            public_key=self.public_key,
            private_key=self.private_key,
            peer_key=self.peer_key,
            endpoint=self.endpoint,
        )
        return (first, *self.further)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All of it."""

    own: tuple[tuple[Kind, str], ...] = ()
    """This cluster's networks."""
    nodes: tuple[Agent, ...] = ()
    gateways: tuple[Agent, ...] = ()
    active: str = ""
    """The gateway that packets go through; empty: none."""
    pod_networks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Each node's own part of the pod networks."""
    peers: tuple[PeerFacts, ...] = ()
    sources: Mapping[int, str] = field(default_factory=dict)
    """By family, what stands for everything of this cluster that is neither pod nor Service."""
    reached: frozenset[str] = frozenset()
    """Nodes that answer the active gateway."""
    protected: tuple[str, ...] = ()
    """Addresses of this cluster that no peer reaches: those of its API server."""

    def networks(self, *kinds: Kind) -> list[str]:
        """This cluster's networks of these kinds."""
        return sorted(text for kind, text in self.own if kind in kinds)
