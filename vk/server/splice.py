"""Two transports tied together: what one receives the other sends, until either ends.

Nothing is parsed, so every protocol version passes: SPDY/3.1, WebSocket v1 to v5, port-forward in either. Works on
transports instead of streams: no task and no queue in the path of a byte. Back-pressure goes through in both
directions: an end that can't write stops the other from reading, so at most one read buffer and the transports' own are
held. When an end closes, what it had sent is delivered to the other, which is then closed as well.
"""

from __future__ import annotations

import asyncio
import dataclasses
import select
from collections.abc import Callable
from typing import Final, cast

from vk.server import stalls

BUFFER: Final = 64 * 1024
"""Bytes read at once, unless TLS holds more."""
_RECORD: Final = 16 * 1024
"""Bytes that TLS may have deciphered and not given out yet: the rest of one record (RFC 8446, 5.1)."""
VANISHED_TIMEOUT: Final = 2.0
"""Seconds the provider has to take what the caller sent before it vanished."""
_CLOSE_TIMEOUT: Final = 1.0


class _End(asyncio.BufferedProtocol):
    """One of the two ends; `peer` is the other."""

    peer: _End

    def __init__(self, transport: asyncio.Transport, *, count: Callable[[float], None], tell: bool) -> None:
        self.transport = transport
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received = 0
        self._count = count
        self._buffer = memoryview(bytearray(BUFFER))
        self._hangup = select.poll()
        descriptor = transport.get_extra_info("socket").fileno()
        if descriptor >= 0:
            self._hangup.register(descriptor, select.POLLRDHUP)
        self._previous = cast(asyncio.Protocol, transport.get_protocol()) if tell else None

    def take_over(self) -> None:
        """Become the transport's protocol. With `tell`, what was there before still hears of the connection's loss."""
        self.transport.set_protocol(self)
        if self.transport.is_closing():
            # Its connection_lost may have been delivered already; a second call does no harm.
            self.connection_lost(None)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the transport puts what it receives: room for all that TLS holds.

        At the peer's end-of-file asyncio (sslproto._do_flush) fills one buffer, once, and drops what does not fit. Its
        hint is what came in and is not deciphered yet; the rest of a record that an earlier buffer had no room for is
        not in it.
        """
        if (held := sizehint + _RECORD) > len(self._buffer):
            self._buffer = memoryview(bytearray(held))
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Data has come: pass it on. A copy, for a transport may keep what it can't send at once."""
        self.received += nbytes
        self._count(nbytes)
        self.peer.send(bytes(self._buffer[:nbytes]))

    def send(self, data: bytes) -> None:
        """Write to this end, unless it has hung up.

        A write to a connection that was reset makes asyncio close it at once, with all that has come in and is not yet
        read, which may be the exit code of a command that did not want the rest of its input.
        """
        if not self.transport.is_closing() and not self._hangup.poll(0):
            self.transport.write(data)

    def eof_received(self) -> None:
        """Nothing more will come. None: the transport closes itself, connection_lost follows."""

    def pause_writing(self) -> None:
        """This end is full: the peer must wait."""
        if not self.peer.lost.done():
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        """This end has room again."""
        if not self.peer.lost.done() and not self.peer.transport.is_closing():
            self.peer.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """This end is gone."""
        if self.lost.done():
            return
        self.lost.set_result(None)
        # The ends refer to each other, so they wait for the garbage collector; their buffers need not.
        self._buffer = memoryview(b"")
        if self._previous is not None:
            self._previous.connection_lost(exc)
        if not self.peer.lost.done() and not self.peer.transport.is_closing():
            # It may have been held back for our sake. What it sends from now on is dropped.
            self.peer.transport.resume_reading()


@dataclasses.dataclass(frozen=True, slots=True)
class Counters:
    """Where carried bytes are counted."""

    inbound: Callable[[float], None]
    outbound: Callable[[float], None]


async def run(
    caller: asyncio.Transport,
    provider: asyncio.Transport,
    *,
    tcp: asyncio.Transport,
    greeting: bytes,
    early: bytes,
    counters: Counters,
    idle_timeout: float,
) -> None:
    """Tie the two together; returns when both are closed.

    The caller's former protocol is not told of the connection's loss: that is for whoever awaits this, when it is done
    (aiohttp would cancel it at once). `tcp` is the transport below the caller's TLS. `greeting` (the answer's head) and
    `early` (what the provider has sent since) go to the caller first. After `idle_timeout` seconds without a byte
    either way the stream is cut; so long the caller has, too, to take what the provider sent before it closed.
    Cancelled: both are aborted at once.
    """
    inside = _End(caller, count=counters.inbound, tell=False)
    outside = _End(provider, count=counters.outbound, tell=True)
    inside.peer, outside.peer = outside, inside
    try:
        caller.write(greeting + early)
        inside.take_over()
        outside.take_over()
        for end in (inside, outside):
            if not end.lost.done() and not end.transport.is_closing():
                end.transport.resume_reading()
        with stalls.borne(tcp, provider):
            await _watch_idle(inside, outside, idle_timeout=idle_timeout)
            if inside.lost.done():
                await _close(outside, (provider,), timeout=VANISHED_TIMEOUT)
            else:
                await _close(inside, (caller, tcp), timeout=idle_timeout)
    finally:
        for end in (inside, outside):
            if not end.lost.done():
                end.transport.abort()


async def _watch_idle(inside: _End, outside: _End, *, idle_timeout: float) -> None:
    """Wait for an end to close, or close both when nothing has passed for long."""
    seen = -1
    while seen != (seen := inside.received + outside.received):
        closed, _ = await asyncio.wait(
            (inside.lost, outside.lost), timeout=idle_timeout, return_when=asyncio.FIRST_COMPLETED
        )
        if closed:
            return


async def _close(end: _End, transports: tuple[asyncio.Transport, ...], *, timeout: float) -> None:
    """Close an end when all it was given has gone out, or after `timeout` seconds.

    asyncio drops what is still buffered if, while TLS closes, the other side goes on sending; and the kernel drops what
    it has not got acknowledged if a socket is closed with unread data. So close only when nothing is under way.
    """
    await stalls.taken(transports, gone=end.lost, timeout=timeout)
    if not end.lost.done():
        end.transport.close()
        await asyncio.wait((end.lost,), timeout=_CLOSE_TIMEOUT)
