"""Who may open flows to whom, for one peer. Pure.

`WholeCluster`: pods, Services and exported addresses of both sides. Otherwise only what offloading needs: our pods at
the peer and ours here talk to each other both ways; the peer's pods here may talk with all of the peer's, for it
is their home. Where a peer is both consumer and provider, the agents' rules, which are lists and not pairs, come to the
union: then all of the peer's may reach our pods. Whatever else is so, our pods may ask where the peer answers probes:
nothing else of it answers there.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import collapse_addresses, ip_address, ip_network

from netfabric._pb import fabric_pb2 as pb
from netfabric.controller import links
from netfabric.controller.facts import PeerFacts, World
from netfabric.plan.model import Kind
from netfabric.plan.translation import Translation


def policy(world: World, peer: PeerFacts) -> pb.Policy:
    """The rules for one peer; empty ones let nothing pass."""
    targets = [target for _, target in peer.exports]
    made = pb.Policy(unreachable=_hosts(world.protected), probed=peer.probed)
    if peer.probed:
        made.askers.extend(world.networks(Kind.POD))
    if peer.whole:
        made.reachable.extend([*world.networks(Kind.POD, Kind.SERVICE), *_hosts(targets)])
        made.openers.extend([*world.networks(Kind.POD), *links.INSIDE])
        return made
    pods = world.networks(Kind.POD)
    here, there = peer.offloaded.here, _real(peer)
    if there:
        made.reachable.extend(pods)
        made.openers.extend([*pods, *links.INSIDE])
    if here:
        made.reachable.extend(one for one in _hosts(here) if not there)
        made.openers.extend(one for one in _hosts(here) if not there)
    elif there:
        made.sources.extend(_hosts(there))
        made.destinations.extend(_hosts(there))
    if targets and (here or there):
        made.reachable.extend(_hosts(targets))
    return made


def _real(peer: PeerFacts) -> list[str]:
    """Our pods at the peer by the addresses that they have there; what is no address of its pods does not count."""
    home = Translation(one.mapping for one in peer.networks if one.kind is Kind.POD).back()
    return [found for found in map(home.address, sorted(peer.offloaded.there)) if found is not None]


def _hosts(addresses: Iterable[str]) -> list[str]:
    """As few prefixes as hold just these addresses, in order."""
    found: list[str] = []
    for version in (4, 6):
        hosts = [ip_network(one) for one in addresses if ip_address(one).version == version]
        found += [str(one) for one in collapse_addresses(hosts)]  # type: ignore[type-var] # one family at a time
    return found
