"""The words of nftables that the firewall is written in: objects, statements and elements. Pure.

Each function is a statement or an expression in the form of libnftables-json(5).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from netfabric.agent.model import Network

Json: TypeAlias = dict[str, Any]

FAMILY, TABLE = "inet", "isthmus"
VERSIONS = (4, 6)
PROTOCOL = {4: "ip", 6: "ip6"}
# By number: nft knows names from /etc/protocols, which an image need not have.
ICMP = {4: 1, 6: 58}
_TYPE = {4: "ipv4_addr", 6: "ipv6_addr"}
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


class Objects:
    """Collects objects; sets before chains before rules, for a rule may name any of them."""

    def __init__(self) -> None:
        self._named: list[Json] = []
        self._chains: dict[str, Json] = {}
        self._rules: list[Json] = []

    def counter(self, name: str) -> None:
        """A counter that rules name."""
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
        """A chain; one of a name that is known here is hooked where that stands."""
        described: Json = {"name": name}
        if name in _CHAINS:
            hook, kind, priority = _CHAINS[name]
            described |= {"type": kind, "hook": hook, "prio": priority, "policy": policy}
        self._chains[name] = {"chain": _table(described)}

    def rule(self, chain: str, *statements: Json) -> None:
        """One more rule at the end of a chain."""
        self._rules.append({"rule": _table({"chain": chain, "expr": list(statements)})})

    def ordered(self) -> list[Json]:
        """All of them, in an order that nft takes."""
        return [*self._named, *self._chains.values(), *self._rules]


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
    return {"map": {"key": {"payload": {"protocol": PROTOCOL[version], "field": field}}, "data": {"set": elements}}}


def of_version(pairs: list[list[Any]], version: int) -> list[Any]:
    """Of a map's elements those of one family."""
    return [pair for pair in pairs if _version(pair[0]) == version]


def _version(element: Json | str) -> int:
    text = element if isinstance(element, str) else element["prefix"]["addr"]
    return 6 if ":" in text else 4


def netmap(kind: str, version: int, mapped: Json) -> Json:
    """Translate an address (`dnat`, `snat`), prefix for prefix: its last bits stay."""
    return {kind: {"family": PROTOCOL[version], "addr": mapped, "flags": "netmap", "type_flags": "prefix"}}


def _table(described: Json) -> Json:
    return {"family": FAMILY, "table": TABLE} | described


def equal(left: Json, right: Any) -> Json:
    """What a match is made of."""
    return {"op": "==", "left": left, "right": right}


def saddr(version: int, name: str, *, negate: bool = False) -> Json:
    """The source is in the set NAME4 or NAME6, or is not."""
    return _in_set(version, "saddr", name, negate=negate)


def daddr(version: int, name: str) -> Json:
    """The destination is in the set."""
    return _in_set(version, "daddr", name, negate=False)


def _in_set(version: int, field: str, name: str, *, negate: bool) -> Json:
    left = {"payload": {"protocol": PROTOCOL[version], "field": field}}
    return {"match": {"op": "!=" if negate else "==", "left": left, "right": f"@{name}{version}"}}


def from_peers() -> Json:
    """It came by a tunnel."""
    return interface("iifname", f"@{TUNNELS}")


def iifname(names: Iterable[str]) -> Json:
    """It came by one of the interfaces."""
    return interface("iifname", {"set": sorted(names)})


def oifname(names: Iterable[str]) -> Json:
    """It leaves by one of the interfaces."""
    return interface("oifname", {"set": sorted(names)})


def interface(key: str, right: Json | str) -> Json:
    """The interface it came by (`iifname`) or leaves by (`oifname`)."""
    return {"match": equal({"meta": {"key": key}}, right)}


def udp(port: int) -> Json:
    """It is for a UDP port."""
    return {"match": equal({"payload": {"protocol": "udp", "field": "dport"}}, port)}


def state(name: str) -> Json:
    """What conntrack makes of it."""
    return {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": name}}


def answers() -> tuple[Json, Json, Json]:
    """Accept what answers a flow that was let through: the opener's direction is judged every time, not once."""
    return direction("reply"), state("established"), {"accept": None}


def errors() -> tuple[Json, Json]:
    """Accept ICMP errors about flows that were let through, "too big" among them, whichever way they go."""
    return state("related"), {"accept": None}


def drop(name: str) -> tuple[Json, Json]:
    """Count and drop."""
    return {"counter": name}, {"drop": None}


def direction(name: str) -> Json:
    """It goes the way of its flow's opener (`original`), or back (`reply`)."""
    return {"match": equal({"ct": {"key": "direction"}}, name)}
