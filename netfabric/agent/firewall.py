"""The firewall of an agent: one nftables table, rendered whole from the desired state. Pure.

Whatever the number of peers and addresses, a packet meets the same few rules: a peer is found by one lookup of the
interface in a verdict map, an address by one lookup in a set or map. The chains, in the order in which a packet meets
them (a gateway's; a node has `input`, `clamp` and `keep` only):

    raw      prerouting -300   flows of peers with the same addresses are told apart by conntrack zone
    mark     prerouting -150   from a peer, to a `seen` prefix, or an answer to a peer: marked for a routing table
    dnat     prerouting -100   `seen` -> `real` towards the peer; `shown` -> `target` from it
    input    input         0   what peers and strangers may ask of the gateway itself: next to nothing
    clamp    forward    -150   TCP's segment size is cut to what the way out takes
    forward  forward       0   who may: sources are the peer's, then the policy; anything else is dropped and counted
    snat     postrouting 100   `real` -> `seen` from the peer; masquerade of what the peer has no way back to
    keep     postrouting  90   own sources that a CNI's masquerade must not touch; tunnels' outer source is our end
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network

from netfabric.agent import peerchains
from netfabric.agent.kernel import INSIDE
from netfabric.agent.model import Address, Desired, Network, OverlayLink, Peer, Role
from netfabric.agent.nft import (
    ICMP,
    PROTOCOL,
    TUNNELS,
    VERSIONS,
    Json,
    Objects,
    answers,
    collapse,
    daddr,
    direction,
    drop,
    equal,
    from_peers,
    iifname,
    lookup,
    netmap,
    of_version,
    oifname,
    prefix,
    saddr,
    udp,
)
from netfabric.agent.peerchains import DROPS, GENERAL, counter


def render(desired: Desired) -> list[Json]:
    """The table's objects in the form of libnftables-json(5), without the table itself; none where it is not needed."""
    if desired.role is Role.PROBE or not desired.links:
        return []
    objects = Objects()
    for reason in GENERAL:
        objects.counter(counter(reason))
    if desired.role is Role.GATEWAY:
        for peer in desired.peers:
            for reason in DROPS:
                objects.counter(counter(reason, peer))
        _gateway(desired, objects)
    else:
        _node(desired, objects)
    return objects.ordered()


def _gateway(desired: Desired, objects: Objects) -> None:
    own = [ip_network(interface.ip) for link in desired.links for interface in link.addresses]
    objects.addresses("own", own)
    by_link = {link: peer for peer in desired.peers for link in peer.links}
    objects.interfaces(TUNNELS, by_link)
    for name in ("raw", "mark", "dnat", "snat", "clamp", "input"):
        objects.chain(name)
    objects.chain("forward", policy="drop")
    for peer in desired.peers:
        peerchains.sets(desired, peer, objects)
        peerchains.chains(desired, peer, objects)
    _raw(desired, by_link, objects)
    if by_link:
        objects.rule("mark", from_peers(), {"mangle": {"key": {"meta": {"key": "mark"}}, "value": INSIDE}})
    for version in VERSIONS:
        seen = [(p.seen, peer.number) for peer in desired.peers for p in peer.prefixes if p.seen.version == version]
        if seen:
            number = lookup(version, "daddr", [[prefix(network), mark] for network, mark in seen])
            objects.rule("mark", {"mangle": {"key": {"meta": {"key": "mark"}}, "value": number}})
    _mark_answers(by_link, objects)
    _dnat(desired, by_link, objects)
    _input(desired, by_link, objects)
    _clamp([link.name for link in desired.links], objects)
    _forward(desired, by_link, objects)
    _snat(desired, by_link, objects)


def _node(desired: Desired, objects: Objects) -> None:
    objects.chain("input")
    objects.chain("clamp")
    objects.chain("keep")
    _underlay(desired, objects)
    fabric = [link.name for link in desired.links]
    _clamp(fabric, objects)
    if not fabric:
        return
    # A binding to its own address keeps a source: no later chain, the CNI's masquerade among them, gets to choose.
    for version in VERSIONS:
        kept = [network for network in collapse(desired.keep_sources) if network.version == version]
        if kept:
            same = lookup(version, "saddr", [[prefix(network), prefix(network)] for network in kept])
            objects.rule("keep", oifname(fabric), netmap("snat", version, same))
        ends = [(k.remote, k.port) for k in _overlays(desired) if k.remote.version == version]
        for port in sorted({port for _, port in ends}):
            outer = [[str(remote), str(remote)] for remote, at in sorted(set(ends), key=str) if at == port]
            keep = {"snat": {"family": PROTOCOL[version], "addr": lookup(version, "saddr", outer)}}
            objects.rule("keep", udp(port), keep)
    _own_ends(desired, objects)


def _own_ends(desired: Desired, objects: Objects) -> None:
    """Our tunnel packets come from where the other end expects them.

    A geneve interface can't be told its outer source: it is that of the route, which may be a CNI's bridge.
    """
    mine = {"match": equal({"fib": {"result": "type", "flags": ["saddr"]}}, "local")}
    for version in VERSIONS:
        ends = {(k.port, str(k.remote), str(k.local)) for k in _overlays(desired) if k.remote.version == version}
        for port in sorted({port for port, _, _ in ends}):
            pairs = [[remote, local] for at, remote, local in sorted(ends) if at == port]
            source = {"snat": {"family": PROTOCOL[version], "addr": lookup(version, "daddr", pairs)}}
            objects.rule("keep", udp(port), mine, source)


def _overlays(desired: Desired) -> Iterator[OverlayLink]:
    return (link.kind for link in desired.links if isinstance(link.kind, OverlayLink))


def _underlay(desired: Desired, objects: Objects) -> None:
    """Tunnel packets from anywhere but the other ends that we know are dropped (vxlan itself takes any)."""
    objects.addresses("underlay", [ip_network(kind.remote) for kind in _overlays(desired)])
    for port in sorted({kind.port for kind in _overlays(desired)}):
        for version in VERSIONS:
            objects.rule("input", udp(port), saddr(version, "underlay", negate=True), *drop(counter("underlay")))


def _raw(desired: Desired, by_link: Mapping[str, Peer], objects: Objects) -> None:
    zoned = {p.number for p in desired.peers if any(p.overlaps(other) for other in desired.peers if other is not p)}
    if not zoned:
        return
    for version in VERSIONS:
        # What is addressed to the gateway itself answers what it sent, which is in no zone.
        objects.rule("raw", daddr(version, "own"), {"return": None})
    links = [[link, peer.number] for link, peer in sorted(by_link.items()) if peer.number in zoned]
    by_interface = {"map": {"key": {"meta": {"key": "iifname"}}, "data": {"set": links}}}
    objects.rule("raw", {"mangle": {"key": {"ct": {"key": "zone"}}, "value": by_interface}})
    for version in VERSIONS:
        seen = [
            [prefix(p.seen), peer.number]
            for peer in desired.peers
            for p in peer.prefixes
            if peer.number in zoned and p.seen.version == version
        ]
        if seen:
            by_address = lookup(version, "daddr", seen)
            objects.rule("raw", {"mangle": {"key": {"ct": {"key": "zone"}}, "value": by_address}})


def _mark_answers(by_link: Mapping[str, Peer], objects: Objects) -> None:
    """Answers to flows that a peer opened find back to it by their flow, whatever address its source was given here."""
    if not by_link:
        return
    numbers = [[link, peer.number] for link, peer in sorted(by_link.items())]
    opener = {"map": {"key": {"meta": {"key": "iifname"}}, "data": {"set": numbers}}}
    mark = {"ct": {"key": "mark"}}
    objects.rule("mark", direction("original"), {"mangle": {"key": mark, "value": opener}})
    elsewhere = {"match": {"op": "!=", "left": {"meta": {"key": "iifname"}}, "right": f"@{TUNNELS}"}}
    known = {"match": {"op": "!=", "left": mark, "right": 0}}
    answer = {"mangle": {"key": {"meta": {"key": "mark"}}, "value": mark}}
    objects.rule("mark", elsewhere, direction("reply"), known, answer)


def _dnat(desired: Desired, by_link: Mapping[str, Peer], objects: Objects) -> None:
    for version in VERSIONS:
        asked = [[str(a.shown), str(a.target)] for a in desired.probe_answers if a.shown.version == version]
        if by_link and asked:
            answering = {"dnat": {"family": PROTOCOL[version], "addr": lookup(version, "daddr", asked)}}
            objects.rule("dnat", from_peers(), udp(desired.responder_port), answering)
        shown = [[prefix(e.shown), prefix(e.target)] for e in desired.exports if e.shown != e.target]
        if by_link and (elements := of_version(shown, version)):
            objects.rule("dnat", from_peers(), netmap("dnat", version, lookup(version, "daddr", elements)))
        remapped = [[prefix(p.seen), prefix(p.real)] for q in desired.peers for p in q.prefixes if p.seen != p.real]
        if elements := of_version(remapped, version):
            objects.rule("dnat", netmap("dnat", version, lookup(version, "daddr", elements)))


def _input(desired: Desired, by_link: Mapping[str, Peer], objects: Objects) -> None:
    _underlay(desired, objects)
    _by_peer("input", "iifname", "ask", by_link, objects)
    for peer in desired.peers:
        chain = f"ask_{peer.number}"
        for version in VERSIONS:
            near = saddr(version, f"near_{peer.number}_")
            objects.rule(chain, near, {"match": equal({"meta": {"key": "l4proto"}}, ICMP[version])}, {"accept": None})
            if desired.responder_port:
                objects.rule(chain, near, udp(desired.responder_port), {"accept": None})
            objects.rule(chain, near, *answers())
        # Neighbour discovery, on links that have it.
        hop = equal({"payload": {"protocol": "ip6", "field": "hoplimit"}}, 255)
        objects.rule(chain, {"match": hop}, {"match": equal({"meta": {"key": "l4proto"}}, ICMP[6])}, {"accept": None})
        objects.rule(chain, *drop(counter("input", peer)))


def _clamp(links: Iterable[str], objects: Objects) -> None:
    names = sorted(links)
    if not names:
        return
    flags = {"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, ["syn", "rst"]]}
    size = {"tcp option": {"name": "maxseg", "field": "size"}}
    for matched in (oifname(names), iifname(names)):
        objects.rule(
            "clamp",
            # First: next to no packet opens a connection, and an interface costs a lookup.
            {"match": {"op": "==", "left": flags, "right": "syn"}},
            matched,
            {"mangle": {"key": size, "value": {"rt": {"key": "mtu"}}}},
        )


def _forward(desired: Desired, by_link: Mapping[str, Peer], objects: Objects) -> None:
    _by_peer("forward", "iifname", "from", by_link, objects)
    _by_peer("forward", "oifname", "to", by_link, objects)
    objects.rule("forward", *drop(counter("stray")))


def _by_peer(chain: str, key: str, way: str, by_link: Mapping[str, Peer], objects: Objects) -> None:
    """On to the chain WAY of the peer whose interface it is, by one lookup."""
    chains = [[link, {"jump": {"target": f"{way}_{peer.number}"}}] for link, peer in sorted(by_link.items())]
    if chains:
        objects.rule(chain, {"vmap": {"key": {"meta": {"key": key}}, "data": {"set": chains}}})


def _snat(desired: Desired, by_link: Mapping[str, Peer], objects: Objects) -> None:
    if by_link:
        # Exports without a way back first: their source is the gateway's.
        for version in VERSIONS:
            targets = [e.target for e in desired.exports if e.masquerade and e.target.version == version]
            if targets:
                members = {"set": [prefix(target) for target in collapse(targets)]}
                left = {"payload": {"protocol": PROTOCOL[version], "field": "daddr"}}
                objects.rule("snat", from_peers(), {"match": equal(left, members)}, {"masquerade": None})
        _by_peer("snat", "iifname", "back", by_link, objects)
    alike: dict[tuple[Address, tuple[Network, ...]], list[str]] = {}
    for masquerade in desired.masquerades:
        alike.setdefault((masquerade.address, masquerade.keep), []).append(masquerade.link)
    for (address, keep), links in alike.items():
        _masquerade(address, keep, links, objects)


def _masquerade(address: Address, kept: Iterable[Network], links: Iterable[str], objects: Objects) -> None:
    version = address.version
    keep = [prefix(network) for network in collapse(kept) if network.version == version]
    left = {"payload": {"protocol": PROTOCOL[version], "field": "saddr"}}
    family: Json = equal({"meta": {"key": "nfproto"}}, f"ipv{version}")
    outside = {"op": "!=", "left": left, "right": {"set": keep}} if keep else family
    source = {"snat": {"family": PROTOCOL[version], "addr": str(address)}}
    # What the gateway itself says to the peer's, probes above all, comes from its end of the tunnel.
    others = saddr(version, "own", negate=True)
    objects.rule("snat", oifname(links), others, {"match": outside}, source)
