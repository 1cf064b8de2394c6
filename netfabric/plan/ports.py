"""The UDP ports at which the gateway listens for each peer, one for each tunnel. Pure.

What a status holds stays, whoever else would like to have it; then come the ports that users name, then the rest. A
tunnel behind the first has the port behind that one's, or if that is taken the first that is free.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from netfabric.plan.model import FIRST_PORT, PeerInput, Problem

LAST_PORT = 65535


class Ports(NamedTuple):
    """Of one peer."""

    first: int
    """0: there is none."""
    further: tuple[int, ...] = ()
    problem: Problem | None = None


def assign(ordered: Sequence[PeerInput]) -> dict[str, Ports]:
    """The ports of each peer; of two that want the same one the first of these has it."""
    work = _Work()
    for peer in ordered:
        work.keep_first(peer)
    for peer in ordered:
        work.keep_further(peer)
    for peer in ordered:
        work.declare(peer)
    for peer in ordered:
        work.choose_first(peer)
    for peer in ordered:
        work.choose_further(peer)
    return {peer.name: work.outcome(peer) for peer in ordered}


class _Work:
    """The ports while they are given out."""

    def __init__(self) -> None:
        self._owners: dict[int, str] = {}
        self._first: dict[str, int] = {}
        self._further: dict[str, dict[int, int]] = {}
        self._problems: dict[str, Problem] = {}

    def keep_first(self, peer: PeerInput) -> None:
        if peer.held_port and peer.port in (None, peer.held_port) and peer.held_port not in self._owners:
            self._take(peer, peer.held_port)

    def keep_further(self, peer: PeerInput) -> None:
        for number, port in enumerate(peer.held_further[: peer.tunnels - 1], start=1):
            if port and port not in self._owners:
                self._owners[port] = peer.name
                self._further.setdefault(peer.name, {})[number] = port

    def declare(self, peer: PeerInput) -> None:
        if peer.port is None or peer.name in self._first:
            return
        owner = self._owners.get(peer.port)
        if owner not in (None, peer.name):
            told = f"spec.port: {peer.port} is the port of {owner}; choose another, or leave it out"
            self._first[peer.name], self._problems[peer.name] = 0, Problem("PortTaken", told)
            return
        own = self._further.get(peer.name, {})
        self._further[peer.name] = {number: port for number, port in own.items() if port != peer.port}
        self._take(peer, peer.port)

    def choose_first(self, peer: PeerInput) -> None:
        if peer.name not in self._first:
            self._take(peer, self._free(range(FIRST_PORT, LAST_PORT + 1)))

    def choose_further(self, peer: PeerInput) -> None:
        if not self._first[peer.name]:
            return
        own = self._further.setdefault(peer.name, {})
        for number in range(1, peer.tunnels):
            if number not in own:
                behind = self._first[peer.name] + number
                own[number] = self._free(
                    (*range(behind, min(behind, LAST_PORT) + 1), *range(FIRST_PORT, LAST_PORT + 1))
                )
                self._owners[own[number]] = peer.name

    def outcome(self, peer: PeerInput) -> Ports:
        first, own = self._first[peer.name], self._further.get(peer.name, {})
        further = tuple(own[number] for number in sorted(own)) if first else ()
        return Ports(first, further, self._problems.get(peer.name))

    def _take(self, peer: PeerInput, port: int) -> None:
        self._owners[port] = peer.name
        self._first[peer.name] = port

    def _free(self, ports: Iterable[int]) -> int:
        return next((port for port in ports if port not in self._owners), 0)
