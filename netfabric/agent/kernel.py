"""What a desired state means in terms of the kernel: interfaces, addresses, routes and rules. Pure.

A peer's packets find their way by a mark: the firewall marks what is addressed to one of the peer's `seen` prefixes, a
rule sends the mark to the peer's own routing table, and there is nothing in it but the peer's link. So identical
prefixes of two peers, or of a peer and this cluster, never meet in one table; and when the link is gone, what is marked
is refused rather than sent astray.

What comes from a peer has a mark and a table, too, with the ways to this cluster's nodes: in the main table a CNI may
have other ways there, such as straight to the pods of the gateway's own node, and then answers would not come back by
the way that the question took.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network

from netfabric.agent.model import (
    Address,
    Desired,
    Interface,
    Link,
    Network,
    Overlay,
    OverlayLink,
    Peer,
    Role,
    WireGuardKind,
    WireGuardLink,
)

PROTOCOL = 73
"""Marks routes and rules as ours (rtnetlink's `proto`); 73 is nobody else's in iproute2's list."""
ALIAS = "isthmus"
"""Marks interfaces as ours."""
PRIORITY = 7300
TABLE_BASE = 7_300_000
MAIN_TABLE, LOCAL_TABLE = 254, 255
MARK_MASK = 0xFFFF
INSIDE = 4096
"""The mark of what comes from peers; theirs are smaller."""
OWN = 0
"""In place of a mark: the rule for our own addresses."""
_INSIDE_METRIC = 7300
"""Of the same ways in the main table, for what the gateway itself sends: any other way there comes first."""
LAST_METRIC = 2**31
_DEFAULT_METRIC = {4: 0, 6: 1024}
_EVERYTHING: dict[int, Network] = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}
_SHARED_VIA: dict[int, Address | None] = {4: None, 6: ip_address("fe80::1")}
"""IPv6 shares only ways with a next hop (ip6_route_multipath_add); a tunnel has no neighbours, so that any will do."""

WIREGUARD_OVERHEAD = {4: 60, 6: 80}
OVERLAY_OVERHEAD = {4: 50, 6: 70}
SMALLEST_MTU = 1280
"""Below it an interface has no IPv6 (RFC 8200 section 5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelLink:
    """An interface of ours: `kind` as in `ip link`, `tun` for user-space WireGuard."""

    name: str
    kind: str
    mtu: int
    mac: str = ""
    vni: int = 0
    local: Address | None = None
    remote: Address | None = None
    port: int = 0
    up: bool = True

    @property
    def fixed(self) -> tuple[object, ...]:
        """What can't be changed without making the interface anew."""
        return self.kind, self.vni, self.port, self.local, self.mac, self.remote if self.kind == "geneve" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRoute:
    """A route of ours; without a link it is `unreachable`, with others besides flows are spread over them."""

    prefix: Network
    table: int = MAIN_TABLE
    link: str = ""
    via: Address | None = None
    source: Address | None = None
    metric: int = 0
    others: tuple[str, ...] = ()
    """In order behind `link`, which is the first; one that has more than its share is there twice."""

    @property
    def links(self) -> tuple[str, ...]:
        """All of them."""
        return (self.link, *self.others) if self.link else ()

    @property
    def key(self) -> tuple[int, Network, int]:
        """What there is one of."""
        return self.table, self.prefix, self.metric


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRule:
    """Packets of a mark look into a table; `OWN`: only then all of them into that of our own addresses."""

    version: int
    mark: int

    @property
    def table(self) -> int:
        """The peer's table."""
        return TABLE_BASE + self.mark if self.mark != OWN else LOCAL_TABLE

    @property
    def priority(self) -> int:
        """Smaller ones are asked first."""
        return PRIORITY + (self.mark == OWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelState:
    """What is there, or should be."""

    links: Mapping[str, KernelLink] = field(default_factory=dict)
    addresses: frozenset[tuple[str, Interface]] = frozenset()
    routes: frozenset[KernelRoute] = frozenset()
    rules: frozenset[KernelRule] = frozenset()
    foreign: frozenset[str] = frozenset()
    """Names of interfaces that are not ours."""
    foreign_first: Mapping[int, int] = field(default_factory=dict)
    """By family, the priority of a rule that is not ours and has our own addresses looked for before marks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What this kernel can do, and what stands in for it."""

    wireguard: WireGuardKind | None
    geneve: bool
    vxlan: bool
    multipath: bool = False
    """Whether a route may have several links."""

    def overlay(self, wanted: Overlay | None) -> Overlay:
        """The technology of an overlay link: the one asked for, else GENEVE if there is one."""
        return wanted or (Overlay.GENEVE if self.geneve else Overlay.VXLAN)


def wanted(
    desired: Desired,
    *,
    abilities: Abilities,
    outer_mtus: Mapping[str, int],
    carrying: Mapping[str, Sequence[str]] | None = None,
) -> KernelState:
    """The kernel's state that is desired. `outer_mtus`: by link, MTU of the way to its other end, as far as known.

    `carrying`: by peer, those of its links that flows go by (see `sharing`); all of those of a peer that is not in it.
    """
    links = [link for link in desired.links if not (desired.standby and isinstance(link.kind, WireGuardLink))]
    made = (kernel_link(link, abilities=abilities, outer_mtu=outer_mtus.get(link.name, 1500)) for link in links)
    names = {link.name for link in links}
    return KernelState(
        links={link.name: link for link in made if link is not None},
        addresses=frozenset((link.name, address) for link in links for address in link.addresses),
        routes=frozenset(_routes(desired, names, carrying or {})),
        rules=frozenset(_rules(desired)),
    )


def kernel_link(link: Link, *, abilities: Abilities, outer_mtu: int) -> KernelLink | None:
    """The interface of a link; None if something else makes it."""
    kind = link.kind
    if isinstance(kind, WireGuardLink):
        chosen = kind.kind or abilities.wireguard or WireGuardKind.KERNEL
        # The other end's family may change with its address: room for the larger header costs 20 bytes in 1420.
        mtu = link.mtu or max(SMALLEST_MTU, outer_mtu - WIREGUARD_OVERHEAD[6])
        return KernelLink(name=link.name, kind="wireguard" if chosen is WireGuardKind.KERNEL else "tun", mtu=mtu)
    if isinstance(kind, OverlayLink):
        return KernelLink(
            name=link.name,
            kind=abilities.overlay(kind.technology).value,
            mtu=link.mtu or max(SMALLEST_MTU, outer_mtu - OVERLAY_OVERHEAD[kind.remote.version]),
            mac=mac(link),
            vni=kind.vni,
            local=kind.local if abilities.overlay(kind.technology) is Overlay.VXLAN else None,
            remote=kind.remote,
            port=kind.port,
        )
    return None


def mac(link: Link) -> str:
    """The Ethernet address of an overlay link, made from its first inner address.

    So a gateway that takes over, with the same inner address, is known to the nodes' neighbour tables already.
    """
    text = str(link.addresses[0].ip) if link.addresses else link.name
    digest = hashlib.sha256(f"isthmus {text}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def _versions(peer: Peer) -> list[int]:
    return sorted({prefix.seen.version for prefix in peer.prefixes})


def _rules(desired: Desired) -> Iterator[KernelRule]:
    for peer in desired.peers:
        for version in _versions(peer):
            yield KernelRule(version=version, mark=peer.number)
    # A peer's pod may have the address of this gateway's: what is marked is not for us.
    for version in {version for peer in desired.peers for version in _versions(peer)}:
        yield KernelRule(version=version, mark=OWN)
    for version in {route.prefix.version for route in desired.routes if route.inside}:
        yield KernelRule(version=version, mark=INSIDE)


def _routes(desired: Desired, links: set[str], carrying: Mapping[str, Sequence[str]]) -> Iterator[KernelRoute]:
    for route in desired.routes:
        if route.link not in links:
            continue
        metric = _DEFAULT_METRIC[route.prefix.version]
        made = KernelRoute(prefix=route.prefix, link=route.link, via=route.via, source=route.source, metric=metric)
        if route.inside:
            yield replace(made, table=TABLE_BASE + INSIDE)
            yield replace(made, metric=_INSIDE_METRIC)
        else:
            yield made
    for peer in desired.peers:
        table = TABLE_BASE + peer.number
        for version in _versions(peer):
            everything, metric = _EVERYTHING[version], _DEFAULT_METRIC[version]
            yield KernelRoute(prefix=everything, table=table, metric=LAST_METRIC)
            if used := sorted(links.intersection(carrying.get(peer.name, peer.links))):
                via = _SHARED_VIA[version] if len(used) > 1 else None
                first, others = used[0], tuple(used[1:])
                yield KernelRoute(prefix=everything, table=table, link=first, others=others, via=via, metric=metric)


def sysctls(desired: Desired) -> dict[str, str]:
    """Settings by their path below /proc/sys/net that the role needs."""
    if desired.role is Role.PROBE or not desired.links:
        return {}
    found = {"ipv4/ip_forward": "1"}
    if any(network.version == 6 for network in desired.local_prefixes):
        # Not otherwise: a node that forwards IPv6 takes no routes from routers any more.
        found["ipv6/conf/all/forwarding"] = "1"
    if desired.role is Role.GATEWAY:
        # Sources are checked by the firewall, by peer: the kernel's own check knows nothing of marks. And a flow that
        # another gateway began must not count as invalid.
        found |= {"ipv4/conf/all/rp_filter": "0", "netfilter/nf_conntrack_tcp_be_liberal": "1"}
    for peer in desired.peers:
        if len(peer.links) > 1:
            # By ports too, so that a flow stays on one link and those of two hosts find both.
            found |= {f"ipv{version}/fib_multipath_hash_policy": "1" for version in _versions(peer)}
    tunnels = {link for peer in desired.peers for link in peer.links}
    for link in desired.links:
        if not (desired.standby and isinstance(link.kind, WireGuardLink)):
            if link.name in tunnels:
                # A pod of the peer's may have our own address.
                found[f"ipv4/conf/{link.name}/accept_local"] = "1"
            found[f"ipv4/conf/{link.name}/rp_filter"] = "0" if desired.role is Role.GATEWAY else "2"
    return found
