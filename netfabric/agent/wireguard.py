"""WireGuard interfaces of either kind, the kernel's or `wireguard-go`'s: both are spoken to by `wg`, keys by stdin.

`wg syncconf` changes what differs and leaves running sessions alone. An endpoint is told only when it is new or its
peer has fallen silent, so a peer that roams, or dials in, is not thrown back to where it was.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path

from netfabric.agent import programs
from netfabric.agent.errors import KernelError
from netfabric.agent.model import Address, Key, Network, WireGuardLink, WireGuardPeer

USERSPACE = "wireguard-go"
SOCKETS = Path("/var/run/wireguard")
SILENT_SECONDS = 15.0
"""After so long without an answer to what was sent an endpoint's name is resolved again."""
_START_SECONDS = 10.0

Endpoint = tuple[Address, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerReport:
    """A peer as the interface tells."""

    preshared: str = field(default="", repr=False)
    """Digest of the preshared key."""
    endpoint: Endpoint | None = None
    allowed_ips: frozenset[Network] = frozenset()
    handshake: float = 0.0
    """Unix time; 0: never."""
    received: int = 0
    sent: int = 0
    keepalive: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """An interface as `wg` tells."""

    private: str = field(default="", repr=False)
    """Digest of the private key."""
    listen_port: int = 0
    peers: Mapping[bytes, PeerReport] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Keys of one link, read from wherever they are."""

    private: bytes = field(repr=False)
    preshared: Mapping[bytes, bytes] = field(default_factory=dict, repr=False)
    """By the peer's public key."""


def available() -> bool:
    """Whether there is a user-space WireGuard to fall back to."""
    return programs.find(USERSPACE) is not None


async def start_userspace(name: str) -> None:
    """Have `wireguard-go` make the interface; it goes on by itself and ends when the interface is removed."""
    # A socket that a killed one left would only confuse `wg`.
    with contextlib.suppress(OSError):
        (SOCKETS / f"{name}.sock").unlink(missing_ok=True)
    await programs.run([USERSPACE, name], reason="WireGuardUserspaceFailed")
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not (SOCKETS / f"{name}.sock").exists():  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise KernelError("WireGuardUserspaceFailed", f"{USERSPACE} {name}: its socket did not appear") from None


def secrets(link: WireGuardLink) -> Secrets:
    """Read a link's keys. Raises `KernelError` that names the file, never its content."""
    preshared = {p.public_key: _key(p.preshared_key) for p in link.peers if p.preshared_key is not None}
    return Secrets(private=_clamped(_key(link.private_key)), preshared=preshared)


def _clamped(private: bytes) -> bytes:
    """As the interface will show it (RFC 7748, 5): another one would be set again with every look."""
    return bytes((private[0] & 248, *private[1:31], private[31] & 127 | 64))


def _key(key: Key) -> bytes:
    if key.value:
        return key.value
    try:
        value = base64.b64decode(Path(key.file).read_text().strip(), validate=True)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not base64"
        raise KernelError("KeyUnreadable", f"{key.file}: {why}") from None
    if len(value) != 32:
        raise KernelError("KeyUnreadable", f"{key.file}: has {len(value)} bytes, expected 32")
    return value


async def report(name: str) -> Report:
    """What an interface has now. Raises `KernelError`."""
    return parse_dump(await programs.run(["wg", "show", name, "dump"], reason="WireGuardUnreadable"))


async def reports() -> dict[str, Report]:
    """The same of all interfaces that can be read, by one program. Raises `KernelError`."""
    return parse_dumps(await programs.run(["wg", "show", "all", "dump"], reason="WireGuardUnreadable"))


def parse_dumps(text: str) -> dict[str, Report]:
    """Read `wg show all dump`: the lines of each interface, with its name before them."""
    lines: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, _, rest = line.partition("\t")
        lines.setdefault(name, []).append(rest)
    return {name: parse_dump("\n".join(found)) for name, found in lines.items()}


def parse_dump(text: str) -> Report:
    """Read `wg show NAME dump` (wg(8)): one line for the interface, one for each peer, tab separated."""
    first, *lines = text.splitlines()
    private, _public, port, _mark = first.split("\t")
    peers: dict[bytes, PeerReport] = {}
    for line in lines:
        public, preshared, endpoint, allowed, handshake, received, sent, keepalive = line.split("\t")
        peers[base64.b64decode(public)] = PeerReport(
            preshared="" if preshared == "(none)" else _digest(base64.b64decode(preshared)),
            endpoint=None if endpoint == "(none)" else _endpoint(endpoint),
            allowed_ips=frozenset(ip_network(a) for a in allowed.split(",") if a != "(none)"),
            handshake=float(handshake),
            received=int(received),
            sent=int(sent),
            keepalive=0 if keepalive == "off" else int(keepalive),
        )
    return Report(
        private="" if private == "(none)" else _digest(base64.b64decode(private)), listen_port=int(port), peers=peers
    )


def _endpoint(text: str) -> Endpoint:
    host, _, port = text.rpartition(":")
    return ip_address(host.strip("[]").partition("%")[0]), int(port)


def _digest(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()


def configuration(
    link: WireGuardLink, secret: Secrets, present: Report, *, tell: Mapping[bytes, Endpoint]
) -> str | None:
    """What to give to `wg syncconf` for a link, None if it is as it should be. `tell`: endpoints to set, by peer."""
    differs = _digest(secret.private) != present.private
    differs |= bool(link.listen_port) and link.listen_port != present.listen_port
    differs |= present.peers.keys() != {peer.public_key for peer in link.peers} or bool(tell)
    differs |= any(_differs(peer, secret, present.peers.get(peer.public_key)) for peer in link.peers)
    if not differs:
        return None
    lines = ["[Interface]", f"PrivateKey = {_text(secret.private)}"]
    # Without the line syncconf would choose a port anew.
    if port := link.listen_port or present.listen_port:
        lines.append(f"ListenPort = {port}")
    for peer in link.peers:
        lines += ["[Peer]", f"PublicKey = {_text(peer.public_key)}"]
        if peer.public_key in secret.preshared:
            lines.append(f"PresharedKey = {_text(secret.preshared[peer.public_key])}")
        elif peer.public_key in present.peers and present.peers[peer.public_key].preshared:
            lines.append(f"PresharedKey = {_text(bytes(32))}")  # all zeros: none
        if peer.allowed_ips:
            lines.append(f"AllowedIPs = {', '.join(str(network) for network in peer.allowed_ips)}")
        lines.append(f"PersistentKeepalive = {peer.keepalive or 'off'}")
        if (endpoint := tell.get(peer.public_key)) is not None:
            lines.append(f"Endpoint = {endpoint_text(endpoint)}")
    return "\n".join(lines) + "\n"


def _differs(peer: WireGuardPeer, secret: Secrets, present: PeerReport | None) -> bool:
    key = secret.preshared.get(peer.public_key)
    return present is None or (
        (_digest(key) if key else "") != present.preshared
        or frozenset(peer.allowed_ips) != present.allowed_ips
        or peer.keepalive != present.keepalive
    )


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode()


def endpoint_text(endpoint: Endpoint) -> str:
    """host:port, IPv6 in brackets."""
    host, port = endpoint
    return f"[{host}]:{port}" if host.version == 6 else f"{host}:{port}"


async def configure(name: str, text: str) -> None:
    """Give an interface a configuration. Raises `KernelError`."""
    await programs.run(["wg", "syncconf", name, "/dev/stdin"], stdin=text, reason="WireGuardRefused")


async def forget_sessions(name: str) -> None:
    """Have all peers of an interface dialled before anything is sent to them. Raises `KernelError`.

    It has no private key afterwards: with another one nothing is sent in old sessions any more (wg_set_device of the
    kernel, SetPrivateKey of wireguard-go), and without one no handshake is begun. Counters, addresses where peers were
    heard and what waits to be sent all stay, which they would not if the peer were removed and added; and what comes is
    taken until there is a new session.
    """
    await programs.run(["wg", "set", name, "private-key", "/dev/null"], reason="WireGuardRefused")
