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
from typing import Any, TypeAlias

from netfabric.agent.kernel import INSIDE
from netfabric.agent.model import (
    Address,
    Desired,
    Network,
    OverlayLink,
    Peer,
    Role,
)

Json: TypeAlias = dict[str, Any]

FAMILY, TABLE = "inet", "isthmus"
VERSIONS = (4, 6)
_PROTOCOL = {4: "ip", 6: "ip6"}
_TYPE = {4: "ipv4_addr", 6: "ipv6_addr"}
# By number: nft knows names from /etc/protocols, which an image need not have.
_ICMP = {4: 1, 6: 58}
# (hook, type, priority); conntrack is at -200, so `raw` is before it and all others are after.
_CHAINS = {
    "raw": ("prerouting", "filter", -300),
    "mark": ("prerouting", "filter", -150),
    "dnat": ("prerouting", "nat", -100),
    "input": ("input", "filter", 0),
    "clamp": ("forward", "filter", -150),
    "forward": ("forward", "filter", 0),
    "keep": ("postrouting", "nat", 90),
    "snat": ("postrouting", "nat", 100),
}
TUNNELS = "tunnels"
"""The set of the interfaces of all peers: one for all rules, so that a peer more is an element more and no rule."""
DROPS = ("spoofed", "policy", "transit", "input")
"""Counters of each peer: why its packets were dropped."""
GENERAL = ("underlay", "stray", "invalid")
"""Counters of the agent: outer source unknown; between no two links that belong together; unknown to conntrack."""


def counter(reason: str, peer: Peer | None = None) -> str:
    """Name of a counter in the table. Names of peers have no underscore, so it can be taken apart again."""
    return f"{reason}_{peer.number}" if peer else reason


def render(desired: Desired) -> list[Json]:
    """The table's objects in the form of libnftables-json(5), without the table itself; none where it is not needed."""
    if desired.role is Role.PROBE or not desired.links:
        return []
    objects = _Objects()
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


class _Objects:
    """Collects objects; sets before chains before rules, for a rule may name any of them."""

    def __init__(self) -> None:
        self._named: list[Json] = []
        self._chains: dict[str, Json] = {}
        self._rules: list[Json] = []

    def counter(self, name: str) -> None:
        self._named.append({"counter": {"family": FAMILY, "table": TABLE, "name": name}})

    def addresses(self, name: str, networks: Iterable[Network]) -> None:
        """Sets NAME4 and NAME6."""
        for version in VERSIONS:
            elements = [prefix(n) for n in collapse(networks) if n.version == version]
            described = {"name": f"{name}{version}", "type": _TYPE[version], "flags": ["interval"]}
            self._named.append({"set": _table(described) | ({"elem": elements} if elements else {})})

    def interfaces(self, name: str, links: Iterable[str]) -> None:
        """A set of interfaces."""
        elements = sorted(links)
        described = _table({"name": name, "type": "ifname"})
        self._named.append({"set": described | ({"elem": elements} if elements else {})})

    def chain(self, name: str, *, policy: str = "accept") -> None:
        described: Json = {"name": name}
        if name in _CHAINS:
            hook, kind, priority = _CHAINS[name]
            described |= {"type": kind, "hook": hook, "prio": priority, "policy": policy}
        self._chains[name] = {"chain": _table(described)}

    def rule(self, chain: str, *statements: Json) -> None:
        self._rules.append({"rule": _table({"chain": chain, "expr": list(statements)})})

    def ordered(self) -> list[Json]:
        return [*self._named, *self._chains.values(), *self._rules]


def _gateway(desired: Desired, objects: _Objects) -> None:
    own = [ip_network(interface.ip) for link in desired.links for interface in link.addresses]
    objects.addresses("own", own)
    by_link = {link: peer for peer in desired.peers for link in peer.links}
    objects.interfaces(TUNNELS, by_link)
    for name in ("raw", "mark", "dnat", "snat", "clamp", "input"):
        objects.chain(name)
    objects.chain("forward", policy="drop")
    for peer in desired.peers:
        _peer_sets(desired, peer, objects)
        _peer_chains(desired, peer, objects)
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


def _node(desired: Desired, objects: _Objects) -> None:
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
            objects.rule("keep", oifname(fabric), _nat("snat", version, same))
        ends = [(k.remote, k.port) for k in _overlays(desired) if k.remote.version == version]
        for port in sorted({port for _, port in ends}):
            outer = [[str(remote), str(remote)] for remote, at in sorted(set(ends), key=str) if at == port]
            keep = {"snat": {"family": _PROTOCOL[version], "addr": lookup(version, "saddr", outer)}}
            objects.rule("keep", udp(port), keep)
    _own_ends(desired, objects)


def _own_ends(desired: Desired, objects: _Objects) -> None:
    """Our tunnel packets come from where the other end expects them.

    A geneve interface can't be told its outer source: it is that of the route, which may be a CNI's bridge.
    """
    mine = {"match": _equal({"fib": {"result": "type", "flags": ["saddr"]}}, "local")}
    for version in VERSIONS:
        ends = {(k.port, str(k.remote), str(k.local)) for k in _overlays(desired) if k.remote.version == version}
        for port in sorted({port for port, _, _ in ends}):
            pairs = [[remote, local] for at, remote, local in sorted(ends) if at == port]
            source = {"snat": {"family": _PROTOCOL[version], "addr": lookup(version, "daddr", pairs)}}
            objects.rule("keep", udp(port), mine, source)


def _overlays(desired: Desired) -> Iterator[OverlayLink]:
    return (link.kind for link in desired.links if isinstance(link.kind, OverlayLink))


def _underlay(desired: Desired, objects: _Objects) -> None:
    """Tunnel packets from anywhere but the other ends that we know are dropped (vxlan itself takes any)."""
    objects.addresses("underlay", [ip_network(kind.remote) for kind in _overlays(desired)])
    for port in sorted({kind.port for kind in _overlays(desired)}):
        for version in VERSIONS:
            objects.rule("input", udp(port), saddr(version, "underlay", negate=True), *drop(counter("underlay")))


def _peer_sets(desired: Desired, peer: Peer, objects: _Objects) -> None:
    real = [p.real for p in peer.prefixes]
    near = [n for link in desired.links if link.name in peer.links for n in link.neighbours]
    sets = {
        "real": real,
        "near": [ip_network(address) for address in near],
        "reachable": peer.policy.reachable,
        "unreachable": peer.policy.unreachable,
        "openers": peer.policy.openers,
        "sources": peer.policy.sources or real,
        "destinations": peer.policy.destinations or real,
        "probed": [ip_network(address) for address in peer.policy.probed],
        "askers": peer.policy.askers,
    }
    for name, networks in sets.items():
        objects.addresses(f"{name}_{peer.number}_", networks)


def _peer_chains(desired: Desired, peer: Peer, objects: _Objects) -> None:
    for name in ("from", "to", "ask", "back"):
        objects.chain(f"{name}_{peer.number}")
    _from_peer(desired, peer, objects)
    _to_peer(desired, peer, objects)
    chain = f"back_{peer.number}"
    for version in VERSIONS:
        pairs = [[prefix(p.real), prefix(p.seen)] for p in peer.prefixes if p.real != p.seen]
        if elements := _of_version(pairs, version):
            objects.rule(chain, _nat("snat", version, lookup(version, "saddr", elements)))


def _from_peer(desired: Desired, peer: Peer, objects: _Objects) -> None:
    chain, n = f"from_{peer.number}", peer.number
    # Errors about our own flows (too big, unreachable) may come from the peer's gateway itself.
    for version in VERSIONS:
        objects.rule(chain, saddr(version, f"near_{n}_"), *errors())
        objects.rule(chain, saddr(version, f"real_{n}_", negate=True), *drop(counter("spoofed", peer)))
    objects.rule(chain, state("invalid"), *drop(counter("invalid")))
    allowed = sorted(link for other in desired.peers if other.name in peer.policy.transit for link in other.links)
    if allowed:
        objects.rule(chain, oifname(allowed), {"accept": None})
    # Answers to a flow that another peer opened by transit go back the same way.
    openers = sorted(link for other in desired.peers if peer.name in other.policy.transit for link in other.links)
    if openers:
        objects.rule(chain, oifname(openers), *answers())
    objects.rule(chain, _interface("oifname", f"@{TUNNELS}"), *drop(counter("transit", peer)))
    for version in VERSIONS:
        objects.rule(chain, daddr(version, f"unreachable_{n}_"), *drop(counter("policy", peer)))
    objects.rule(chain, *answers())
    objects.rule(chain, *errors())
    # Our own addresses are in the peer's reach as little as by the tunnel's end (`input`).
    own = {"match": _equal({"fib": {"result": "type", "flags": ["daddr"]}}, "local")}
    objects.rule(chain, own, *drop(counter("input", peer)))
    for version in VERSIONS:
        allowed_pair = (saddr(version, f"sources_{n}_"), daddr(version, f"reachable_{n}_"))
        objects.rule(chain, *allowed_pair, {"accept": None})
    # Probes come last: others need not meet their rules.
    _answered_probes(desired, chain, objects)
    objects.rule(chain, *drop(counter("policy", peer)))


def _answered_probes(desired: Desired, chain: str, objects: _Objects) -> None:
    """What asks at one of our `shown` addresses, as `_dnat` has handed it on, and no other packet to who answers."""
    handed_on = {"match": {"op": "in", "left": {"ct": {"key": "status"}}, "right": "dnat"}}
    for version in VERSIONS:
        if targets := sorted({str(a.target) for a in desired.probe_answers if a.target.version == version}):
            left = {"payload": {"protocol": _PROTOCOL[version], "field": "daddr"}}
            to = {"match": _equal(left, {"set": targets})}
            objects.rule(chain, to, udp(desired.responder_port), handed_on, {"accept": None})


def _to_peer(desired: Desired, peer: Peer, objects: _Objects) -> None:
    chain, n = f"to_{peer.number}", peer.number
    objects.rule(chain, state("invalid"), *drop(counter("invalid")))
    for version in VERSIONS:
        objects.rule(chain, saddr(version, f"unreachable_{n}_"), *drop(counter("policy", peer)))
    objects.rule(chain, *answers())
    objects.rule(chain, *errors())
    for version in VERSIONS:
        pair = (saddr(version, f"openers_{n}_"), daddr(version, f"destinations_{n}_"))
        objects.rule(chain, *pair, {"accept": None})
    for version in sorted({address.version for address in peer.policy.probed}):
        asked = (saddr(version, f"askers_{n}_"), daddr(version, f"probed_{n}_"))
        objects.rule(chain, *asked, udp(desired.responder_port), {"accept": None})
    objects.rule(chain, *drop(counter("policy", peer)))


def _raw(desired: Desired, by_link: Mapping[str, Peer], objects: _Objects) -> None:
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


def _mark_answers(by_link: Mapping[str, Peer], objects: _Objects) -> None:
    """Answers to flows that a peer opened find back to it by their flow, whatever address its source was given here."""
    if not by_link:
        return
    numbers = [[link, peer.number] for link, peer in sorted(by_link.items())]
    opener = {"map": {"key": {"meta": {"key": "iifname"}}, "data": {"set": numbers}}}
    mark = {"ct": {"key": "mark"}}
    objects.rule("mark", _direction("original"), {"mangle": {"key": mark, "value": opener}})
    elsewhere = {"match": {"op": "!=", "left": {"meta": {"key": "iifname"}}, "right": f"@{TUNNELS}"}}
    known = {"match": {"op": "!=", "left": mark, "right": 0}}
    answer = {"mangle": {"key": {"meta": {"key": "mark"}}, "value": mark}}
    objects.rule("mark", elsewhere, _direction("reply"), known, answer)


def _direction(name: str) -> Json:
    return {"match": _equal({"ct": {"key": "direction"}}, name)}


def _dnat(desired: Desired, by_link: Mapping[str, Peer], objects: _Objects) -> None:
    for version in VERSIONS:
        asked = [[str(a.shown), str(a.target)] for a in desired.probe_answers if a.shown.version == version]
        if by_link and asked:
            answering = {"dnat": {"family": _PROTOCOL[version], "addr": lookup(version, "daddr", asked)}}
            objects.rule("dnat", from_peers(), udp(desired.responder_port), answering)
        shown = [[prefix(e.shown), prefix(e.target)] for e in desired.exports if e.shown != e.target]
        if by_link and (elements := _of_version(shown, version)):
            objects.rule("dnat", from_peers(), _nat("dnat", version, lookup(version, "daddr", elements)))
        remapped = [[prefix(p.seen), prefix(p.real)] for q in desired.peers for p in q.prefixes if p.seen != p.real]
        if elements := _of_version(remapped, version):
            objects.rule("dnat", _nat("dnat", version, lookup(version, "daddr", elements)))


def _input(desired: Desired, by_link: Mapping[str, Peer], objects: _Objects) -> None:
    _underlay(desired, objects)
    _by_peer("input", "iifname", "ask", by_link, objects)
    for peer in desired.peers:
        chain = f"ask_{peer.number}"
        for version in VERSIONS:
            near = saddr(version, f"near_{peer.number}_")
            objects.rule(chain, near, {"match": _equal({"meta": {"key": "l4proto"}}, _ICMP[version])}, {"accept": None})
            if desired.responder_port:
                objects.rule(chain, near, udp(desired.responder_port), {"accept": None})
            objects.rule(chain, near, *answers())
        # Neighbour discovery, on links that have it.
        hop = _equal({"payload": {"protocol": "ip6", "field": "hoplimit"}}, 255)
        objects.rule(chain, {"match": hop}, {"match": _equal({"meta": {"key": "l4proto"}}, _ICMP[6])}, {"accept": None})
        objects.rule(chain, *drop(counter("input", peer)))


def _clamp(links: Iterable[str], objects: _Objects) -> None:
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


def _forward(desired: Desired, by_link: Mapping[str, Peer], objects: _Objects) -> None:
    _by_peer("forward", "iifname", "from", by_link, objects)
    _by_peer("forward", "oifname", "to", by_link, objects)
    objects.rule("forward", *drop(counter("stray")))


def _by_peer(chain: str, key: str, way: str, by_link: Mapping[str, Peer], objects: _Objects) -> None:
    """On to the chain WAY of the peer whose interface it is, by one lookup."""
    chains = [[link, {"jump": {"target": f"{way}_{peer.number}"}}] for link, peer in sorted(by_link.items())]
    if chains:
        objects.rule(chain, {"vmap": {"key": {"meta": {"key": key}}, "data": {"set": chains}}})


def _snat(desired: Desired, by_link: Mapping[str, Peer], objects: _Objects) -> None:
    if by_link:
        # Exports without a way back first: their source is the gateway's.
        for version in VERSIONS:
            targets = [e.target for e in desired.exports if e.masquerade and e.target.version == version]
            if targets:
                members = {"set": [prefix(target) for target in collapse(targets)]}
                left = {"payload": {"protocol": _PROTOCOL[version], "field": "daddr"}}
                objects.rule("snat", from_peers(), {"match": _equal(left, members)}, {"masquerade": None})
        _by_peer("snat", "iifname", "back", by_link, objects)
    alike: dict[tuple[Address, tuple[Network, ...]], list[str]] = {}
    for masquerade in desired.masquerades:
        alike.setdefault((masquerade.address, masquerade.keep), []).append(masquerade.link)
    for (address, keep), links in alike.items():
        _masquerade(address, keep, links, objects)


def _masquerade(address: Address, kept: Iterable[Network], links: Iterable[str], objects: _Objects) -> None:
    version = address.version
    keep = [prefix(network) for network in collapse(kept) if network.version == version]
    left = {"payload": {"protocol": _PROTOCOL[version], "field": "saddr"}}
    family: Json = _equal({"meta": {"key": "nfproto"}}, f"ipv{version}")
    outside = {"op": "!=", "left": left, "right": {"set": keep}} if keep else family
    source = {"snat": {"family": _PROTOCOL[version], "addr": str(address)}}
    # What the gateway itself says to the peer's, probes above all, comes from its end of the tunnel.
    others = saddr(version, "own", negate=True)
    objects.rule("snat", oifname(links), others, {"match": outside}, source)


def collapse(networks: Iterable[Network]) -> list[Network]:
    """The same addresses in the fewest prefixes, sorted: intervals of a set must not overlap."""
    found: list[Network] = []
    for network in sorted(set(networks), key=lambda n: (n.version, int(n.network_address), n.prefixlen)):
        last = found[-1] if found else None
        if last is None or last.version != network.version or not _covers(last, network):
            found.append(network)
    return found


def _covers(whole: Network, part: Network) -> bool:
    return whole.network_address <= part.network_address and whole.broadcast_address >= part.broadcast_address  # type: ignore[operator]


def prefix(network: Network) -> Json | str:
    """A prefix as an element; a single address as nft lists it."""
    if network.prefixlen == network.max_prefixlen:
        return str(network.network_address)
    return {"prefix": {"addr": str(network.network_address), "len": network.prefixlen}}


def lookup(version: int, field: str, elements: list[Any]) -> Json:
    """Look an address of the packet up in an anonymous map."""
    return {"map": {"key": {"payload": {"protocol": _PROTOCOL[version], "field": field}}, "data": {"set": elements}}}


def _of_version(pairs: list[list[Any]], version: int) -> list[Any]:
    return [pair for pair in pairs if _version(pair[0]) == version]


def _version(element: Json | str) -> int:
    text = element if isinstance(element, str) else element["prefix"]["addr"]
    return 6 if ":" in text else 4


def _nat(kind: str, version: int, mapped: Json) -> Json:
    return {kind: {"family": _PROTOCOL[version], "addr": mapped, "flags": "netmap", "type_flags": "prefix"}}


def _table(described: Json) -> Json:
    return {"family": FAMILY, "table": TABLE} | described


def _equal(left: Json, right: Any) -> Json:
    return {"op": "==", "left": left, "right": right}


def saddr(version: int, name: str, *, negate: bool = False) -> Json:
    """The source is in the set NAME4 or NAME6, or is not."""
    return _in_set(version, "saddr", name, negate=negate)


def daddr(version: int, name: str) -> Json:
    """The destination is in the set."""
    return _in_set(version, "daddr", name, negate=False)


def _in_set(version: int, field: str, name: str, *, negate: bool) -> Json:
    left = {"payload": {"protocol": _PROTOCOL[version], "field": field}}
    return {"match": {"op": "!=" if negate else "==", "left": left, "right": f"@{name}{version}"}}


def from_peers() -> Json:
    """It came by a tunnel."""
    return _interface("iifname", f"@{TUNNELS}")


def iifname(names: Iterable[str]) -> Json:
    """It came by one of the interfaces."""
    return _interface("iifname", {"set": sorted(names)})


def oifname(names: Iterable[str]) -> Json:
    """It leaves by one of the interfaces."""
    return _interface("oifname", {"set": sorted(names)})


def _interface(key: str, right: Json | str) -> Json:
    return {"match": _equal({"meta": {"key": key}}, right)}


def udp(port: int) -> Json:
    """It is for a UDP port."""
    return {"match": _equal({"payload": {"protocol": "udp", "field": "dport"}}, port)}


def state(name: str) -> Json:
    """What conntrack makes of it."""
    return {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": name}}


def answers() -> tuple[Json, Json, Json]:
    """Accept what answers a flow that was let through: the opener's direction is judged every time, not once."""
    return _direction("reply"), state("established"), {"accept": None}


def errors() -> tuple[Json, Json]:
    """Accept ICMP errors about flows that were let through, "too big" among them, whichever way they go."""
    return state("related"), {"accept": None}


def drop(name: str) -> tuple[Json, Json]:
    """Count and drop."""
    return {"counter": name}, {"drop": None}


def counters(desired: Desired) -> Mapping[str, tuple[str, str]]:
    """(reason, name of the peer) of every counter by its name."""
    found: dict[str, tuple[str, str]] = {counter(reason): (reason, "") for reason in GENERAL}
    for peer in desired.peers:
        found |= {counter(reason, peer): (reason, peer.name) for reason in DROPS}
    return found
