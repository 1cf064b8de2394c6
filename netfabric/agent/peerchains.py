"""What the firewall of a gateway has for each peer: sets, chains and counters of its own, found by its number. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network

from netfabric.agent.model import Desired, Peer
from netfabric.agent.nft import (
    PROTOCOL,
    TUNNELS,
    VERSIONS,
    Objects,
    answers,
    daddr,
    drop,
    equal,
    errors,
    interface,
    lookup,
    netmap,
    of_version,
    oifname,
    prefix,
    saddr,
    state,
    udp,
)

DROPS = ("spoofed", "policy", "transit", "input")
"""Counters of each peer: why its packets were dropped."""
GENERAL = ("underlay", "stray", "invalid")
"""Counters of the agent: outer source unknown; between no two links that belong together; unknown to conntrack."""


def counter(reason: str, peer: Peer | None = None) -> str:
    """Name of a counter in the table. Names of peers have no underscore, so it can be taken apart again."""
    return f"{reason}_{peer.number}" if peer else reason


def counters(desired: Desired) -> Mapping[str, tuple[str, str]]:
    """(reason, name of the peer) of every counter by its name."""
    found: dict[str, tuple[str, str]] = {counter(reason): (reason, "") for reason in GENERAL}
    for peer in desired.peers:
        found |= {counter(reason, peer): (reason, peer.name) for reason in DROPS}
    return found


def sets(desired: Desired, peer: Peer, objects: Objects) -> None:
    """Who may speak with whom: the sets that its chains look addresses up in."""
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


def chains(desired: Desired, peer: Peer, objects: Objects) -> None:
    """`from` and `to` (forwarded), `ask` (for the gateway itself; its rules are in firewall.py), `back` (addresses)."""
    for name in ("from", "to", "ask", "back"):
        objects.chain(f"{name}_{peer.number}")
    _from_peer(desired, peer, objects)
    _to_peer(desired, peer, objects)
    chain = f"back_{peer.number}"
    for version in VERSIONS:
        pairs = [[prefix(p.real), prefix(p.seen)] for p in peer.prefixes if p.real != p.seen]
        if elements := of_version(pairs, version):
            objects.rule(chain, netmap("snat", version, lookup(version, "saddr", elements)))


def _from_peer(desired: Desired, peer: Peer, objects: Objects) -> None:
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
    objects.rule(chain, interface("oifname", f"@{TUNNELS}"), *drop(counter("transit", peer)))
    for version in VERSIONS:
        objects.rule(chain, daddr(version, f"unreachable_{n}_"), *drop(counter("policy", peer)))
    objects.rule(chain, *answers())
    objects.rule(chain, *errors())
    # Our own addresses are in the peer's reach as little as by the tunnel's end (`input`).
    own = {"match": equal({"fib": {"result": "type", "flags": ["daddr"]}}, "local")}
    objects.rule(chain, own, *drop(counter("input", peer)))
    for version in VERSIONS:
        allowed_pair = (saddr(version, f"sources_{n}_"), daddr(version, f"reachable_{n}_"))
        objects.rule(chain, *allowed_pair, {"accept": None})
    # Probes come last: others need not meet their rules.
    _answered_probes(desired, chain, objects)
    objects.rule(chain, *drop(counter("policy", peer)))


def _answered_probes(desired: Desired, chain: str, objects: Objects) -> None:
    """What asks at one of our `shown` addresses, as `_dnat` has handed it on, and no other packet to who answers."""
    handed_on = {"match": {"op": "in", "left": {"ct": {"key": "status"}}, "right": "dnat"}}
    for version in VERSIONS:
        if targets := sorted({str(a.target) for a in desired.probe_answers if a.target.version == version}):
            left = {"payload": {"protocol": PROTOCOL[version], "field": "daddr"}}
            to = {"match": equal(left, {"set": targets})}
            objects.rule(chain, to, udp(desired.responder_port), handed_on, {"accept": None})


def _to_peer(desired: Desired, peer: Peer, objects: Objects) -> None:
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
