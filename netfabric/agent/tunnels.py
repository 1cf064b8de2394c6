"""Technologies that carry packets between two ends. One is a small class with three answers; the rest of the agent does
not know which there are.

`prepare` is called before the kernel's interfaces are compared (a user-space program may have to make one), `configure`
after, with the interface up, whenever anything may have changed; it must do nothing if all is well.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import Protocol

import structlog

from netfabric.agent import wireguard
from netfabric.agent.errors import KernelError
from netfabric.agent.kernel import KernelLink
from netfabric.agent.model import Link, OverlayLink, ThirdPartyLink, WireGuardLink, WireGuardPeer
from netfabric.agent.wireguard import Endpoint, PeerReport, Report

log = structlog.get_logger(__name__)

RESOLVE_SECONDS = 5.0
Resolve = Callable[[str, int], Awaitable[list[Endpoint]]]


class Tunnel(Protocol):
    """One technology."""

    def carries(self, link: Link) -> bool:
        """Whether a link is of this technology."""
        ...

    async def configure(self, link: Link) -> bool:
        """Have the link as desired, its interface being there; whether anything was to do. Raises `KernelError`."""
        ...

    def outer(self, link: Link) -> Iterable[Endpoint]:
        """Where the link's outer packets go, as far as known."""
        ...


class WireGuardTunnel:
    """Encrypted, for ways that are not trusted."""

    def __init__(self, resolve: Resolve | None = None) -> None:
        self._resolve = resolve or resolve_name
        self._told: dict[tuple[str, bytes], tuple[str, int] | None] = {}
        """Endpoint, as desired, that a peer of a link was last told."""
        self._heard: dict[tuple[str, bytes], PeerReport] = {}
        """As a peer was when it was last found to have sent something."""
        self._heard_at: dict[tuple[str, bytes], float] = {}
        self.reports: dict[str, Report] = {}
        """By link, as of the last `configure` or `read`."""
        self._read_at = float("-inf")

    def carries(self, link: Link) -> bool:
        """WireGuard links."""
        return isinstance(link.kind, WireGuardLink)

    async def configure(self, link: Link) -> bool:
        """Keys, port and peers, as compared with what was `read` last."""
        assert isinstance(link.kind, WireGuardLink)
        secret = wireguard.secrets(link.kind)
        present = self.reports.get(link.name) or await wireguard.report(link.name)
        tell: dict[bytes, Endpoint] = {}
        unresolved: list[str] = []
        for peer in link.kind.peers:
            try:
                endpoint = await self._endpoint(link.name, peer, present)
            except KernelError as error:
                unresolved.append(str(error))
                continue
            if endpoint is not None:
                tell[peer.public_key] = endpoint
        text = wireguard.configuration(link.kind, secret, present, tell=tell)
        if text is not None:
            await wireguard.configure(link.name, text)
            present = await wireguard.report(link.name)
            log.info("wireguard configured", link=link.name, peers=len(present.peers), told=len(tell))
        self._told = {key: value for key, value in self._told.items() if key[0] != link.name}
        self._told |= {(link.name, p.public_key): p.endpoint for p in link.kind.peers if p.public_key in present.peers}
        self.reports[link.name] = present
        if unresolved:
            raise KernelError("EndpointUnresolved", "; ".join(unresolved))
        return text is not None

    async def resolve(self, link: Link) -> dict[bytes, list[Endpoint]]:
        """Where the peers of a link are dialled now, as far as that can be found out."""
        assert isinstance(link.kind, WireGuardLink)
        found = {}
        for peer in link.kind.peers:
            if peer.endpoint is not None:
                with contextlib.suppress(KernelError):
                    found[peer.public_key] = await self._resolve(*peer.endpoint)
        return found

    async def redial(self, link: Link, ways: Mapping[bytes, list[Endpoint]]) -> bool:
        """Have the peers of a link dialled anew with the next packet, where `resolve` found them.

        False, and nothing done, if the link is not as desired: that is then why nothing comes. Raises `KernelError`;
        the next `configure` does what is left.
        """
        assert isinstance(link.kind, WireGuardLink)
        secret = wireguard.secrets(link.kind)
        present = await wireguard.report(link.name)
        if wireguard.configuration(link.kind, secret, present, tell={}) is not None:
            return False
        tell = {k: ways[k][0] for k, peer in present.peers.items() if k in ways and peer.endpoint not in ways[k]}
        await wireguard.forget_sessions(link.name)
        text = wireguard.configuration(link.kind, secret, replace(present, private=""), tell=tell)
        assert text is not None, "the key is missing"
        await wireguard.configure(link.name, text)
        return True

    async def _endpoint(self, link: str, peer: WireGuardPeer, present: Report) -> Endpoint | None:
        """The endpoint to tell, None to leave it as it is."""
        if peer.endpoint is None:
            return None
        known = present.peers.get(peer.public_key)
        told = self._told.get((link, peer.public_key), peer.endpoint)
        settled = known is not None and known.endpoint is not None and told == peer.endpoint
        if known is not None and settled and not self._is_silent((link, peer.public_key), known):
            return None
        found = await self._resolve(*peer.endpoint)
        if known is not None and known.endpoint in found:
            return None
        return found[0]

    def _is_silent(self, key: tuple[str, bytes], now: PeerReport) -> bool:
        """Whether a peer has left unanswered for a while what was sent to it."""
        before, clock = self._heard.get(key), time.monotonic()
        if before is None or now.received != before.received or now.sent == before.sent:
            self._heard[key], self._heard_at[key] = now, clock
            return False
        return clock - self._heard_at[key] > wireguard.SILENT_SECONDS

    async def read(self, names: Collection[str], *, seconds: float = 0.0) -> None:
        """Have reports of these interfaces that are no older than so many seconds. Raises `KernelError`.

        Of others none are kept. One program reads all: there may be a hundred.
        """
        if self.reports.keys() == set(names) and time.monotonic() - self._read_at <= seconds:
            return
        found = await wireguard.reports() if names else {}
        self.reports = {name: found[name] for name in names if name in found}
        self._read_at = time.monotonic()

    def outer(self, link: Link) -> Iterable[Endpoint]:
        """Where peers were last heard, or are expected."""
        report = self.reports.get(link.name, Report())
        return [peer.endpoint for peer in report.peers.values() if peer.endpoint is not None]


class OverlayTunnel:
    """GENEVE or VXLAN, for ways that are trusted: all of it is in the interface."""

    def carries(self, link: Link) -> bool:
        """Overlay links."""
        return isinstance(link.kind, OverlayLink)

    async def configure(self, link: Link) -> bool:
        """Nothing: the interface is all there is."""
        return False

    def outer(self, link: Link) -> Iterable[Endpoint]:
        """The far end."""
        assert isinstance(link.kind, OverlayLink)
        return [(link.kind.remote, link.kind.port)]


class ThirdPartyTunnel:
    """A network that somebody else looks after."""

    def carries(self, link: Link) -> bool:
        """Third parties' links."""
        return isinstance(link.kind, ThirdPartyLink)

    async def configure(self, link: Link) -> bool:
        """Nothing: it is not ours."""
        return False

    def outer(self, link: Link) -> Iterable[Endpoint]:
        """Nobody knows."""
        return ()


async def resolve_name(host: str, port: int) -> list[Endpoint]:
    """Addresses of a name, or the address itself. Raises `KernelError`."""
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, TimeoutError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "no answer"
        raise KernelError("EndpointUnresolved", f"{host}: {why}") from None
    return [(ip_address(entry[4][0]), port) for entry in found]


def technology(link: Link, made: KernelLink | None) -> str:
    """For status: what carries the link."""
    if made is None:
        return "third party" if isinstance(link.kind, ThirdPartyLink) else "none"
    return {"wireguard": "wireguard (kernel)", "tun": "wireguard (user-space)"}.get(made.kind, made.kind)
