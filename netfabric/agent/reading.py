"""From the contract's message to the model. Every refusal names the field; nothing is corrected in silence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address, ip_interface, ip_network
from typing import TypeVar

from netfabric._pb import fabric_pb2 as pb
from netfabric.agent import checks
from netfabric.agent.errors import InvalidStateError
from netfabric.agent.model import (
    OVERLAY_PORT,
    Address,
    Desired,
    Export,
    Interface,
    Key,
    Link,
    Masquerade,
    Network,
    Overlay,
    OverlayLink,
    Peer,
    Policy,
    PrefixMap,
    ProbeAnswer,
    ProbeTarget,
    Role,
    Route,
    ThirdPartyLink,
    WireGuardKind,
    WireGuardLink,
    WireGuardPeer,
)

_ROLES = {pb.ROLE_GATEWAY: Role.GATEWAY, pb.ROLE_NODE: Role.NODE, pb.ROLE_PROBE: Role.PROBE}
_KINDS = {
    pb.WireGuard.IMPLEMENTATION_UNSPECIFIED: None,
    pb.WireGuard.KERNEL: WireGuardKind.KERNEL,
    pb.WireGuard.USERSPACE: WireGuardKind.USERSPACE,
}
_OVERLAYS = {
    pb.Overlay.TECHNOLOGY_UNSPECIFIED: None,
    pb.Overlay.GENEVE: Overlay.GENEVE,
    pb.Overlay.VXLAN: Overlay.VXLAN,
}
_LINK_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,14}")
_PEER_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_KEY_BYTES = 32
# Not for us to make, rename or route by.
_FOREIGN_LINKS = {"lo", "eth0"}

T = TypeVar("T")
M = TypeVar("M")


def read(message: pb.DesiredState) -> Desired:
    """The state that a message means. Raises `InvalidStateError`."""
    if message.role not in _ROLES:
        raise InvalidStateError("role", f"{message.role} is not a role; expected ROLE_GATEWAY, ROLE_NODE or ROLE_PROBE")
    desired = Desired(
        term=message.term,
        generation=message.generation,
        role=_ROLES[message.role],
        standby=message.standby,
        links=_all(message.links, "links", _link),
        peers=_all(message.peers, "peers", _peer),
        routes=_all(message.routes, "routes", _route),
        local_prefixes=_all(message.local_prefixes, "local_prefixes", network),
        exports=_all(message.exports, "exports", _export),
        masquerades=_all(message.masquerades, "masquerades", _masquerade),
        keep_sources=_all(message.keep_sources, "keep_sources", network),
        probes=_all(message.probes, "probes", _probe),
        responder_port=_port(message.responder_port, "responder_port"),
        responder_addresses=_all(message.responder_addresses, "responder_addresses", address),
        probe_answers=_all(message.probe_answers, "probe_answers", _probe_answer),
    )
    checks.check(desired)
    return desired


def network(text: str, path: str) -> Network:
    """A prefix. Raises `InvalidStateError`."""
    return _parsed(ip_network, text, path, "a prefix without host bits, as 10.0.0.0/16 or fd00::/64")


def address(text: str, path: str) -> Address:
    """An address without zone. Raises `InvalidStateError`."""
    if "%" in text:
        raise InvalidStateError(path, f"{text!r}: an address with a zone can't be used")
    return _parsed(ip_address, text, path, "an address, as 10.0.0.1 or fd00::1")


def _interface(text: str, path: str) -> Interface:
    if "/" not in text or "%" in text:
        raise InvalidStateError(path, f"{text!r}: expected an address with length, as 169.254.18.1/30")
    return _parsed(ip_interface, text, path, "an address with length, as 169.254.18.1/30")


def _optional_address(text: str, path: str) -> Address | None:
    return address(text, path) if text else None


def _parsed(parse: Callable[[str], T], text: str, path: str, expected: str) -> T:
    try:
        return parse(text)
    except ValueError:
        raise InvalidStateError(path, f"{text!r}: expected {expected}") from None


def _all(messages: Iterable[M], path: str, one: Callable[[M, str], T]) -> tuple[T, ...]:
    return tuple(one(message, f"{path}[{index}]") for index, message in enumerate(messages))


def _port(number: int, path: str) -> int:
    if number > 65535:
        raise InvalidStateError(path, f"{number} is no port; expected 1 to 65535, or 0")
    return number


def _between(number: int, path: str, *, low: int, high: int) -> int:
    if not low <= number <= high:
        raise InvalidStateError(path, f"{number}: expected {low} to {high}")
    return number


def _named(text: str, path: str, pattern: re.Pattern[str]) -> str:
    if not pattern.fullmatch(text):
        raise InvalidStateError(path, f"{text!r}: expected {pattern.pattern}")
    return text


def _link(message: pb.Link, path: str) -> Link:
    name = _named(message.name, f"{path}.name", _LINK_NAME)
    which = message.WhichOneof("kind")
    kind: WireGuardLink | OverlayLink | ThirdPartyLink
    if which == "wireguard":
        kind = _wireguard(message.wireguard, f"{path}.wireguard")
    elif which == "overlay":
        kind = _overlay(message.overlay, f"{path}.overlay")
    elif which == "third_party":
        kind = ThirdPartyLink()
    else:
        raise InvalidStateError(f"{path}.kind", "is missing; expected wireguard, overlay or third_party")
    if name in _FOREIGN_LINKS and not isinstance(kind, ThirdPartyLink):
        raise InvalidStateError(f"{path}.name", f"{name!r} is an interface of the host or the pod")
    if message.mtu:
        _between(message.mtu, f"{path}.mtu", low=1280, high=65535)
    return Link(
        name=name,
        addresses=_all(message.addresses, f"{path}.addresses", _interface),
        mtu=message.mtu,
        neighbours=_all(message.neighbours, f"{path}.neighbours", address),
        kind=kind,
    )


def _key(message: pb.Key, path: str) -> Key:
    which = message.WhichOneof("source")
    if which == "value":
        return Key(value=_bytes(message.value, f"{path}.value"))
    if which == "file" and message.file.startswith("/"):
        return Key(file=message.file)
    raise InvalidStateError(path, "expected a file's absolute path, or a value of 32 bytes")


def _bytes(value: bytes, path: str) -> bytes:
    if len(value) != _KEY_BYTES:
        raise InvalidStateError(path, f"has {len(value)} bytes; expected {_KEY_BYTES}")
    return value


def _wireguard(message: pb.WireGuard, path: str) -> WireGuardLink:
    if message.implementation not in _KINDS:
        raise InvalidStateError(f"{path}.implementation", f"{message.implementation} is not known")
    return WireGuardLink(
        private_key=_key(message.private_key, f"{path}.private_key"),
        listen_port=_port(message.listen_port, f"{path}.listen_port"),
        kind=_KINDS[message.implementation],
        peers=_all(message.peers, f"{path}.peers", _wireguard_peer),
    )


def _wireguard_peer(message: pb.WireGuardPeer, path: str) -> WireGuardPeer:
    preshared = message.HasField("preshared_key")
    return WireGuardPeer(
        public_key=_bytes(message.public_key, f"{path}.public_key"),
        preshared_key=_key(message.preshared_key, f"{path}.preshared_key") if preshared else None,
        endpoint=_endpoint(message.endpoint, f"{path}.endpoint") if message.endpoint else None,
        allowed_ips=_all(message.allowed_ips, f"{path}.allowed_ips", network),
        keepalive=_port(message.keepalive_seconds, f"{path}.keepalive_seconds"),
    )


def _endpoint(text: str, path: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    bracketed = host != bare
    if not separator or not bare or not port.isascii() or not port.isdigit() or (":" in bare) != bracketed:
        raise InvalidStateError(path, f"{text!r}: expected host:port, an IPv6 address in brackets")
    if not re.fullmatch(r"[A-Za-z0-9.:_-]+", bare):
        raise InvalidStateError(path, f"{text!r}: {bare!r} is neither a name nor an address")
    return bare, _between(int(port[:6]), path, low=1, high=65535)


def _overlay(message: pb.Overlay, path: str) -> OverlayLink:
    if message.technology not in _OVERLAYS:
        raise InvalidStateError(f"{path}.technology", f"{message.technology} is not known")
    local, remote = address(message.local, f"{path}.local"), address(message.remote, f"{path}.remote")
    if local.version != remote.version or local == remote:
        raise InvalidStateError(f"{path}.remote", f"{remote}: expected another address of the family of {local}")
    return OverlayLink(
        technology=_OVERLAYS[message.technology],
        local=local,
        remote=remote,
        vni=_between(message.vni, f"{path}.vni", low=1, high=2**24 - 1),
        port=_port(message.port, f"{path}.port") or OVERLAY_PORT,
    )


def _peer(message: pb.Peer, path: str) -> Peer:
    rules = message.policy

    def networks(texts: Sequence[str], name: str) -> tuple[Network, ...]:
        return _all(texts, f"{path}.policy.{name}", network)

    return Peer(
        name=_named(message.name, f"{path}.name", _PEER_NAME),
        number=_between(message.number, f"{path}.number", low=1, high=4095),
        links=tuple(message.links),
        prefixes=_all(message.prefixes, f"{path}.prefixes", _prefix),
        policy=Policy(
            reachable=networks(rules.reachable, "reachable"),
            unreachable=networks(rules.unreachable, "unreachable"),
            openers=networks(rules.openers, "openers"),
            sources=networks(rules.sources, "sources"),
            destinations=networks(rules.destinations, "destinations"),
            transit=tuple(rules.transit),
            probed=_all(rules.probed, f"{path}.policy.probed", address),
            askers=networks(rules.askers, "askers"),
        ),
    )


def _pair(first: Network, second: Network, path: str) -> None:
    if first.version != second.version or first.prefixlen != second.prefixlen:
        raise InvalidStateError(path, f"{second}: expected the family and length of {first}")


def _prefix(message: pb.PrefixMap, path: str) -> PrefixMap:
    real, seen = network(message.real, f"{path}.real"), network(message.seen, f"{path}.seen")
    _pair(real, seen, f"{path}.seen")
    return PrefixMap(real, seen)


def _route(message: pb.Route, path: str) -> Route:
    return Route(
        prefix=network(message.prefix, f"{path}.prefix"),
        link=message.link,
        via=_optional_address(message.via, f"{path}.via"),
        source=_optional_address(message.source, f"{path}.source"),
        inside=message.inside,
    )


def _export(message: pb.Export, path: str) -> Export:
    shown, target = network(message.shown, f"{path}.shown"), network(message.target, f"{path}.target")
    _pair(shown, target, f"{path}.target")
    return Export(shown=shown, target=target, masquerade=message.masquerade)


def _masquerade(message: pb.Masquerade, path: str) -> Masquerade:
    return Masquerade(
        link=message.link,
        keep=_all(message.keep, f"{path}.keep", network),
        address=address(message.address, f"{path}.address"),
    )


def _probe(message: pb.ProbeTarget, path: str) -> ProbeTarget:
    interval = message.interval_milliseconds or 1000
    return ProbeTarget(
        name=_named(message.name, f"{path}.name", _PEER_NAME),
        address=address(message.address, f"{path}.address"),
        port=_between(message.port, f"{path}.port", low=1, high=65535),
        source=_optional_address(message.source, f"{path}.source"),
        peer=message.peer,
        interval=_between(interval, f"{path}.interval_milliseconds", low=100, high=600_000) / 1000,
        lost_after=_between(message.lost_after or 4, f"{path}.lost_after", low=1, high=100),
        passing_after=_between(message.passing_after or 1, f"{path}.passing_after", low=1, high=100),
        full_size_every=_between(message.full_size_every, f"{path}.full_size_every", low=0, high=1000),
    )


def _probe_answer(message: pb.ProbeAnswer, path: str) -> ProbeAnswer:
    shown, target = address(message.shown, f"{path}.shown"), address(message.target, f"{path}.target")
    _pair(ip_network(shown), ip_network(target), f"{path}.target")
    return ProbeAnswer(shown=shown, target=target)
