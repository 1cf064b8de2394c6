"""Measures paths end to end: small packets all the time, full-size ones now and then, answered by another agent.

A probe is a UDP datagram that the other end's responder sends back as it is but for one letter, so requests and answers
have the same size, both directions are tried, and an answer is never answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import structlog

from netfabric.agent.model import Address, ProbeTarget

log = structlog.get_logger(__name__)

_REQUEST, _ANSWER = b"isthmus-probe-1q", b"isthmus-probe-1a"
_NONCE = 8
SMALLEST = len(_REQUEST) + _NONCE
_HEADERS = {4: 28, 6: 48}
_FLOOR = {4: 576, 6: 1280}
_DO = 2
_MTU_DISCOVER = {4: (socket.IPPROTO_IP, 10), 6: (socket.IPPROTO_IPV6, 23)}
_MTU = {4: (socket.IPPROTO_IP, 14), 6: (socket.IPPROTO_IPV6, 24)}
_WINDOW = 20
_FULL_SIZE_EVERY = 30
_SMOOTHING = 0.125


class _Responder(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an isinstance: the class that asyncio makes is none of DatagramTransport's.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._transport is not None and data.startswith(_REQUEST) and len(data) >= SMALLEST:
            self._transport.sendto(_ANSWER + data[len(_REQUEST) :], addr)


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
                transport, _ = await loop.create_datagram_endpoint(_Responder, local_addr=(str(address), port))
                self._open[address, port] = transport

    def close(self) -> None:
        """Answer nowhere."""
        for transport in self._open.values():
            transport.close()
        self._open.clear()


class _Sender(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.waiting: dict[bytes, asyncio.Future[float]] = {}
        self.error: OSError | None = None

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        nonce = data[len(_ANSWER) : SMALLEST]
        if data.startswith(_ANSWER) and (future := self.waiting.get(nonce)) is not None and not future.done():
            future.set_result(time.perf_counter())

    def error_received(self, exc: Exception) -> None:
        # "No route to host" and the like; a packet that is too big only tells the kernel the path's MTU.
        self.error = exc if isinstance(exc, OSError) else None


@dataclass(slots=True)
class Path:
    """A way to another agent's responder."""

    version: int
    _socket: socket.socket
    _transport: asyncio.DatagramTransport
    _protocol: _Sender

    @classmethod
    @asynccontextmanager
    async def open(cls, address: Address, port: int, *, source: Address | None) -> AsyncIterator[Path]:
        """Raises OSError if there is no way there or the source is not ours."""
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as opened:
            opened.setblocking(False)
            opened.setsockopt(*_MTU_DISCOVER[address.version], _DO)
            if source is not None:
                opened.bind((str(source), 0))
            opened.connect((str(address), port))
            loop = asyncio.get_running_loop()
            transport, protocol = await loop.create_datagram_endpoint(_Sender, sock=opened)
            try:
                yield cls(address.version, opened, transport, protocol)
            finally:
                transport.close()

    @property
    def error(self) -> str:
        """What the kernel said last."""
        return (self._protocol.error.strerror or "") if self._protocol.error is not None else ""

    async def probe(self, *, size: int = 0, timeout: float) -> float | None:
        """Seconds until a packet of `size` bytes, IP header included, was back; None if it was not in time."""
        nonce = os.urandom(_NONCE)
        payload = max(0, size - _HEADERS[self.version] - SMALLEST)
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._protocol.waiting[nonce] = future
        start = time.perf_counter()
        self._protocol.error = None
        try:
            # Not by the transport: it would keep back what the kernel refuses.
            self._socket.send(_REQUEST + nonce + bytes(payload))
            async with asyncio.timeout(timeout):
                return await future - start
        except (OSError, TimeoutError) as error:
            if isinstance(error, OSError) and not isinstance(error, TimeoutError):
                self._protocol.error = error
            return None
        finally:
            del self._protocol.waiting[nonce]

    async def mtu(self, *, timeout: float) -> int:
        """Size of the largest packet that goes both ways; 0 if none does."""
        floor = _FLOOR[self.version]
        for _ in range(3):
            # What the kernel knows; a router may know better and tell it, then the next round is smaller.
            size = self._known()
            if await self.probe(size=size, timeout=timeout) is not None:
                return size
            if self._known() == size:
                break
        return await self._search(floor, self._known(), timeout=timeout)

    async def _search(self, low: int, high: int, *, timeout: float) -> int:
        if await self.probe(size=low, timeout=timeout) is None:
            return 0
        while high - low > 8:
            middle = (low + high) // 2
            if await self.probe(size=middle, timeout=timeout) is not None:
                low = middle
            else:
                high = middle
        return low

    def _known(self) -> int:
        return int(self._socket.getsockopt(*_MTU[self.version]))


@dataclass(slots=True)
class Measured:
    """A path as measured so far; times are Unix time, latencies seconds."""

    target: ProbeTarget
    passing: bool = False
    latency: float = 0.0
    smoothed: float = 0.0
    path_mtu: int = 0
    last_answer: float = 0.0
    since: float = field(default_factory=time.time)
    recent: deque[bool] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    lost: int = 0

    @property
    def loss(self) -> float:
        """Share of the last probes that was lost."""
        return self.recent.count(False) / len(self.recent) if self.recent else 0.0

    def record(self, seconds: float | None) -> bool:
        """Take an answer or its absence; whether `passing` changed."""
        before = self.passing
        self.recent.append(seconds is not None)
        if seconds is None:
            self.lost += 1
            self.passing = self.passing and self.lost < self.target.lost_after
        else:
            self.lost = 0
            self.passing = True
            self.latency = seconds
            self.smoothed += (seconds - self.smoothed) * _SMOOTHING if self.smoothed else seconds
            self.last_answer = time.time()
        if self.passing != before:
            self.since = time.time()
        return self.passing != before


class Monitor:
    """Measures a changing set of paths, each in a task of its own."""

    def __init__(self, *, on_change: Callable[[], None] = lambda: None) -> None:
        self._on_change = on_change
        self._wanted: dict[str, ProbeTarget] = {}
        self._changed = asyncio.Event()
        self.measured: dict[str, Measured] = {}

    def measure(self, targets: Iterable[ProbeTarget]) -> None:
        """Measure these from now on; what is known of those that stay is kept."""
        wanted = {target.name: target for target in targets}
        if wanted != self._wanted:
            self._wanted = wanted
            self._changed.set()

    async def run(self) -> None:
        """Measure, for ever."""
        tasks: dict[ProbeTarget, asyncio.Task[None]] = {}
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    wanted = set(self._wanted.values())
                    for gone in tasks.keys() - wanted:
                        tasks.pop(gone).cancel()
                    self.measured = {name: m for name, m in self.measured.items() if m.target in wanted}
                    for target in wanted - tasks.keys():
                        self.measured[target.name] = measured = Measured(target)
                        tasks[target] = group.create_task(self._follow(measured), name=f"probe {target.name}")
                    await self._changed.wait()
                    self._changed.clear()
        finally:
            self.measured.clear()

    async def _follow(self, measured: Measured) -> None:
        while True:
            with contextlib.suppress(OSError):
                await self._follow_socket(measured)
            # No way there, or no such source of our own, yet.
            self._record(measured, None)
            await asyncio.sleep(measured.target.interval)

    async def _follow_socket(self, measured: Measured) -> None:
        target = measured.target
        async with Path.open(target.address, target.port, source=target.source) as path:
            for turn in itertools.count():
                start = time.perf_counter()
                self._record(measured, await path.probe(timeout=max(target.interval, 1.0)))
                if measured.lost and measured.lost % (2 * target.lost_after) == 0:
                    return  # a new socket takes another source port, and another route if there is one
                if not measured.lost and turn % _FULL_SIZE_EVERY == 0:
                    measured.path_mtu = await path.mtu(timeout=1.0)
                await asyncio.sleep(max(0.0, target.interval - (time.perf_counter() - start)))

    def _record(self, measured: Measured, seconds: float | None) -> None:
        if measured.record(seconds):
            log.info("path", name=measured.target.name, passing=measured.passing)
            self._on_change()
