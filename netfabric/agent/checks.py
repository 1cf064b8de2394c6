"""What must hold between the fields of a desired state: no address with two meanings, no way round the policy.

The controller sees to all of it; the agent checks again, for it is the one that would open the hole. A peer that
announces our own prefixes, another peer's or a default route is refused here, whatever the controller thought of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

from netfabric.agent.errors import InvalidStateError
from netfabric.agent.model import Address, Desired, Network, Peer, Role, ThirdPartyLink, WireGuardLink, overlap, within

# More than this of the address space is nobody's own: "half a default route" included.
_WIDEST = {4: 8, 6: 16}
MOST_LINKS = 8
"""Of one peer."""
_SPECIAL = ("is_loopback", "is_multicast", "is_unspecified", "is_link_local")


def check(desired: Desired) -> None:
    """Raises `InvalidStateError` for the first thing that does not fit."""
    _unique((link.name for link in desired.links), "links", "name")
    _unique((peer.name for peer in desired.peers), "peers", "name")
    _unique((peer.number for peer in desired.peers), "peers", "number")
    _unique((probe.name for probe in desired.probes), "probes", "name")
    _unique(((route.prefix, route.link, route.via) for route in desired.routes), "routes", "prefix")
    _unique((export.shown for export in desired.exports), "exports", "shown")
    _unique((answer.shown for answer in desired.probe_answers), "probe_answers", "shown")
    _role(desired)
    _links(desired)
    _peers(desired)
    _routes(desired)
    _exports(desired)
    _probe_answers(desired)
    _masquerades(desired)
    _transit(desired)


def _unique(values: Iterable[object], path: str, field: str) -> None:
    seen: set[object] = set()
    for index, value in enumerate(values):
        if value in seen:
            raise InvalidStateError(f"{path}[{index}].{field}", f"{_text(value)} is there twice")
        seen.add(value)


def _text(value: object) -> str:
    return str(value[0]) if isinstance(value, tuple) else repr(value) if isinstance(value, str) else str(value)


def _role(desired: Desired) -> None:
    if desired.role is not Role.GATEWAY:
        for field in ("peers", "exports", "probe_answers", "masquerades", "standby"):
            if getattr(desired, field):
                raise InvalidStateError(field, f"is for gateways; this is the state of a {desired.role.value}")
    if desired.role is Role.PROBE:
        for field in ("links", "routes", "keep_sources"):
            if getattr(desired, field):
                raise InvalidStateError(field, "is not for a probe, which measures only")


def _links(desired: Desired) -> None:
    ports: set[int] = set()
    own: set[Address] = set()
    outer: set[tuple[int, int, Address]] = set()
    for index, link in enumerate(desired.links):
        path = f"links[{index}]"
        for number, interface in enumerate(link.addresses):
            if interface.ip in own:
                raise InvalidStateError(f"{path}.addresses[{number}]", f"{interface.ip} is there twice")
            own.add(interface.ip)
        if isinstance(link.kind, WireGuardLink):
            port = link.kind.listen_port
            if port and port in ports:
                raise InvalidStateError(f"{path}.wireguard.listen_port", f"{port} is another link's as well")
            ports.add(port)
            _unique((peer.public_key.hex() for peer in link.kind.peers), f"{path}.wireguard.peers", "public_key")
            _wireguard_prefixes(link.kind, path)
        elif not isinstance(link.kind, ThirdPartyLink):
            tunnel = (link.kind.port, link.kind.vni, link.kind.remote)
            if tunnel in outer:
                raise InvalidStateError(f"{path}.overlay.vni", f"{link.kind.vni} is another link's to that end as well")
            outer.add(tunnel)


def _wireguard_prefixes(kind: WireGuardLink, path: str) -> None:
    taken: set[Network] = set()
    for index, peer in enumerate(kind.peers):
        for number, prefix in enumerate(peer.allowed_ips):
            where = f"{path}.wireguard.peers[{index}].allowed_ips[{number}]"
            _narrow(prefix, where)
            if prefix in taken:
                raise InvalidStateError(where, f"{prefix} is allowed twice on this link")
            taken.add(prefix)


def _peers(desired: Desired) -> None:
    names = {link.name: link.kind for link in desired.links}
    used: set[str] = set()
    for index, peer in enumerate(desired.peers):
        path = f"peers[{index}]"
        if not 1 <= len(peer.links) <= MOST_LINKS:
            raise InvalidStateError(f"{path}.links", f"has {len(peer.links)} entries; expected 1 to {MOST_LINKS}")
        for number, link in enumerate(peer.links):
            if link not in names:
                raise InvalidStateError(f"{path}.links[{number}]", f"{link!r} is none of links[].name")
            if link in used:
                raise InvalidStateError(f"{path}.links[{number}]", f"{link!r} is listed already: a link has one peer")
            if len(peer.links) > 1 and not isinstance(names[link], WireGuardLink):
                raise InvalidStateError(f"{path}.links[{number}]", f"{link!r} is not WireGuard: only such share flows")
            used.add(link)
        _prefixes(desired, peer, path)
        _policy(peer, path)
    for (_, one), (index, other) in combinations(enumerate(desired.peers), 2):
        for number, prefix in enumerate(other.prefixes):
            if any(overlap(prefix.seen, mine.seen) for mine in one.prefixes):
                where = f"peers[{index}].prefixes[{number}].seen"
                raise InvalidStateError(where, f"{prefix.seen} overlaps one of peer {one.name!r}")


def _prefixes(desired: Desired, peer: Peer, path: str) -> None:
    for number, prefix in enumerate(peer.prefixes):
        where = f"{path}.prefixes[{number}]"
        _narrow(prefix.real, f"{where}.real")
        _narrow(prefix.seen, f"{where}.seen")
        for local in desired.local_prefixes:
            if overlap(prefix.seen, local):
                raise InvalidStateError(f"{where}.seen", f"{prefix.seen} overlaps {local}, which is this cluster's own")
        for other in peer.prefixes[:number]:
            if overlap(prefix.seen, other.seen):
                raise InvalidStateError(f"{where}.seen", f"{prefix.seen} overlaps {other.seen} of the same peer")
            if overlap(prefix.real, other.real):
                raise InvalidStateError(f"{where}.real", f"{prefix.real} overlaps {other.real} of the same peer")


def _policy(peer: Peer, path: str) -> None:
    for field in ("sources", "destinations"):
        for number, part in enumerate(getattr(peer.policy, field)):
            if not any(within(part, prefix.real) for prefix in peer.prefixes):
                where = f"{path}.policy.{field}[{number}]"
                raise InvalidStateError(where, f"{part} is not in the peer's real prefixes")
    for number, probed in enumerate(peer.policy.probed):
        if not any(probed in prefix.real for prefix in peer.prefixes):
            raise InvalidStateError(f"{path}.policy.probed[{number}]", f"{probed} is not in the peer's real prefixes")


def _narrow(prefix: Network, path: str) -> None:
    if prefix.prefixlen < _WIDEST[prefix.version]:
        widest = _WIDEST[prefix.version]
        raise InvalidStateError(path, f"{prefix} is too wide; expected a prefix of /{widest} or longer")
    if any(getattr(prefix.network_address, flag) for flag in _SPECIAL[:3]):
        raise InvalidStateError(path, f"{prefix} is loopback, multicast or unspecified")


def _routes(desired: Desired) -> None:
    names = {link.name for link in desired.links}
    for index, route in enumerate(desired.routes):
        path = f"routes[{index}]"
        if route.link not in names:
            raise InvalidStateError(f"{path}.link", f"{route.link!r} is none of links[].name")
        _narrow(route.prefix, f"{path}.prefix")
        for field in ("via", "source"):
            other = getattr(route, field)
            if other is not None and other.version != route.prefix.version:
                raise InvalidStateError(f"{path}.{field}", f"{other}: expected the family of {route.prefix}")
        if route.inside:
            if not any(within(route.prefix, local) for local in desired.local_prefixes):
                raise InvalidStateError(f"{path}.prefix", f"{route.prefix} is inside none of local_prefixes")
            if desired.peer_of(route.link):
                raise InvalidStateError(f"{path}.link", f"{route.link!r} leads to a peer, not inside the cluster")
        elif any(overlap(route.prefix, local) for local in desired.local_prefixes):
            raise InvalidStateError(f"{path}.prefix", f"{route.prefix} overlaps this cluster's own prefixes")


def _exports(desired: Desired) -> None:
    zoned = any(one.overlaps(other) for one, other in combinations(desired.peers, 2))
    for index, export in enumerate(desired.exports):
        if export.masquerade and zoned:
            # The answer comes to the gateway's own address, which says nothing of the peer, so of the zone.
            why = "can't be had at a gateway whose peers have the same addresses: give each of them one of its own"
            raise InvalidStateError(f"exports[{index}].masquerade", why)
        if not any(within(export.shown, local) for local in desired.local_prefixes):
            raise InvalidStateError(f"exports[{index}].shown", f"{export.shown} is in none of local_prefixes")
        if any(overlap(export.target, prefix.seen) for peer in desired.peers for prefix in peer.prefixes):
            raise InvalidStateError(f"exports[{index}].target", f"{export.target} is a peer's; that would be transit")


def _probe_answers(desired: Desired) -> None:
    inside = {one for link in desired.links if not desired.peer_of(link.name) for one in link.neighbours}
    for index, answer in enumerate(desired.probe_answers):
        path = f"probe_answers[{index}]"
        if not any(answer.shown in local for local in desired.local_prefixes):
            raise InvalidStateError(f"{path}.shown", f"{answer.shown} is in none of local_prefixes")
        if answer.target not in inside:
            raise InvalidStateError(f"{path}.target", f"{answer.target} is no neighbour on a link inside the cluster")
    if desired.probe_answers and not desired.responder_port:
        raise InvalidStateError("responder_port", "is missing: probe_answers are for what is asked there")


def _masquerades(desired: Desired) -> None:
    names = {link.name for link in desired.links}
    for index, masquerade in enumerate(desired.masquerades):
        if masquerade.link not in names:
            raise InvalidStateError(f"masquerades[{index}].link", f"{masquerade.link!r} is none of links[].name")
    _unique(((m.link, m.address.version) for m in desired.masquerades), "masquerades", "link")


def _transit(desired: Desired) -> None:
    by_name = {peer.name: (index, peer) for index, peer in enumerate(desired.peers)}
    for index, peer in enumerate(desired.peers):
        for number, name in enumerate(peer.policy.transit):
            path = f"peers[{index}].policy.transit[{number}]"
            if name not in by_name or name == peer.name:
                raise InvalidStateError(path, f"{name!r} is no other peer of this gateway")
            for one in (peer, by_name[name][1]):
                if any(one.overlaps(other) for other in desired.peers if other is not one):
                    raise InvalidStateError(path, f"the addresses of {one.name!r} overlap another peer's: no transit")
