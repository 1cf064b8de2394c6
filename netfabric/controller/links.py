"""Names, addresses and numbers of the fabric's links. Pure: both ends of each come to the same without asking.

Inside the cluster each pair of node and gateway has two addresses of its own (RFC 3021, RFC 6164), so that a packet's
next hop needs no discovery. A tunnel's two addresses come from the two public keys, for that is what both clusters
know of it.
"""

from __future__ import annotations

import hashlib
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

MOST_NODES = 2047
MOST_GATEWAYS = 4
_INSIDE_V4 = int(IPv4Address("169.254.192.0"))
_INSIDE_V6 = int(IPv6Address("fd69:7375::"))
# Below is what CNIs and node-local DNS use (169.254.1.1, 169.254.20.10), above what clouds do (169.254.169.254).
_TUNNEL_V4 = int(IPv4Address("169.254.32.0"))
_TUNNELS = 96 * 128
INSIDE = ("169.254.192.0/18", "fd69:7375::/64")
"""All addresses of links inside the cluster."""


class Ends(NamedTuple):
    """A link's two addresses in one family, without prefix."""

    ours: str
    theirs: str
    prefix: int

    @property
    def reversed(self) -> Ends:
        """As the other end has them."""
        return Ends(self.theirs, self.ours, self.prefix)


def peer_link(number: int, *, tunnel: int = 0) -> str:
    """Name of a tunnel to a peer, of several if `tunnel` is not 0."""
    return f"isp{number}-{tunnel}" if tunnel else f"isp{number}"


def node_link(number: int) -> str:
    """Name of a gateway's link to a node."""
    return f"isn{number}"


def gateway_link(number: int) -> str:
    """Name of a node's link to a gateway."""
    return f"isg{number}"


def _pair(gateway: int, node: int) -> int:
    return gateway * (MOST_NODES + 1) + node


def vni(gateway: int, node: int) -> int:
    """The network identifier of the link between a gateway and a node."""
    return 1 + _pair(gateway, node)


def inside(gateway: int, node: int, *, version: int) -> Ends:
    """The gateway's (`ours`) and the node's address of their link."""
    at = 2 * _pair(gateway, node)
    if version == 4:
        return Ends(str(IPv4Address(_INSIDE_V4 + at)), str(IPv4Address(_INSIDE_V4 + at + 1)), 31)
    return Ends(str(IPv6Address(_INSIDE_V6 + at)), str(IPv6Address(_INSIDE_V6 + at + 1)), 127)


def tunnel(ours: bytes, theirs: bytes) -> Ends:
    """Our and the peer's address of a tunnel between these public keys."""
    at = 2 * (_digest(ours, theirs) % _TUNNELS)
    low, high = str(IPv4Address(_TUNNEL_V4 + at)), str(IPv4Address(_TUNNEL_V4 + at + 1))
    return Ends(low, high, 31) if ours < theirs else Ends(high, low, 31)


def tunnel_vni(ours: bytes, theirs: bytes) -> int:
    """The network identifier of a VXLAN tunnel between the clusters of these keys; none of those inside a cluster."""
    first = 1 << 16
    return first + _digest(ours, theirs) % ((1 << 24) - first)


def _digest(ours: bytes, theirs: bytes) -> int:
    return int.from_bytes(hashlib.sha256(b"".join(sorted((ours, theirs)))).digest()[:8])
