"""Answers probes.

A probe is a UDP datagram that the other end sends back as it is but for one letter, so requests and answers have the
same size, both directions are tried, and an answer is never answered.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import cast

from netfabric.agent.model import Address

REQUEST, ANSWER = b"isthmus-probe-1q", b"isthmus-probe-1a"
NONCE = 8
SMALLEST = len(REQUEST) + NONCE
"""Bytes of a probe without padding."""


class Datagrams(asyncio.DatagramProtocol):
    """Answers at one address."""

    def __init__(self) -> None:
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        # Not an isinstance: the class that asyncio makes is none of DatagramTransport's.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Send a request back."""
        if self._transport is not None and data.startswith(REQUEST) and len(data) >= SMALLEST:
            self._transport.sendto(ANSWER + data[len(REQUEST) :], addr)


class Responder:
    """Answers probes at a set of addresses, which comes and goes with the links."""

    def __init__(self) -> None:
        self._open: dict[tuple[Address, int], asyncio.DatagramTransport] = {}

    @property
    def addresses(self) -> set[tuple[Address, int]]:
        """Where it answers."""
        return set(self._open)

    async def answer_at(self, wanted: Iterable[tuple[Address, int]]) -> None:
        """Answer at these and no others; one that does not exist yet is tried again with the next call."""
        needed = set(wanted)
        for gone in self._open.keys() - needed:
            self._open.pop(gone).close()
        loop = asyncio.get_running_loop()
        for address, port in needed - self._open.keys():
            with contextlib.suppress(OSError):
                transport, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=(str(address), port))
                self._open[address, port] = transport

    def close(self) -> None:
        """Answer nowhere."""
        for transport in self._open.values():
            transport.close()
        self._open.clear()
