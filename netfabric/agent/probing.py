"""Measures paths end to end: small packets all the time, full-size ones now and then, answered by another agent.

Where full-size ones are asked for often, their loss is told, too: a way that lets small packets pass and loses large
ones without a word ("too big") holds up every transfer. One that says how large they may be is no such way.

`answering` says what a probe is.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

from netfabric.agent.answering import ANSWER, NONCE, REQUEST, SMALLEST
from netfabric.agent.model import Address, ProbeTarget

log = structlog.get_logger(__name__)

_HEADERS = {4: 28, 6: 48}
_FLOOR = {4: 576, 6: 1280}
_DO = 2
_MTU_DISCOVER = {4: (socket.IPPROTO_IP, 10), 6: (socket.IPPROTO_IPV6, 23)}
_MTU = {4: (socket.IPPROTO_IP, 14), 6: (socket.IPPROTO_IPV6, 24)}
_WINDOW = 20
_FULL_SIZE_EVERY = 30
FULL_SIZE_LOST_AFTER = 5
"""So many full-size packets in a row, one a turn, while the small ones before them are answered."""
_SMOOTHING = 0.125


class _Sender(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.waiting: dict[bytes, asyncio.Future[float]] = {}
        self.error: OSError | None = None

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        nonce = data[len(ANSWER) : SMALLEST]
        if data.startswith(ANSWER) and (future := self.waiting.get(nonce)) is not None and not future.done():
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
        nonce = os.urandom(NONCE)
        payload = max(0, size - _HEADERS[self.version] - SMALLEST)
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._protocol.waiting[nonce] = future
        start = time.perf_counter()
        self._protocol.error = None
        try:
            # Not by the transport: it would keep back what the kernel refuses.
            self._socket.send(REQUEST + nonce + bytes(payload))
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
        size = await self.full_size(timeout=timeout)
        return size or await self._search(_FLOOR[self.version], self._known(), timeout=timeout)

    async def full_size(self, *, timeout: float) -> int:
        """Size of the largest packet that the kernel would send, if it goes both ways; 0 if it is lost.

        When a router says that it is too big, the next is smaller, as the next of any sender would be.
        """
        for _ in range(3):
            size = self._known()
            if await self.probe(size=size, timeout=timeout) is not None:
                return size
            if self._known() == size:
                break
        return 0

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
    answered: int = 0
    """In a row, as `lost`."""
    full_lost: int = 0
    """Of full size, in a row."""
    settled: bool = False
    """Whether it was asked often enough for `passing` to be meant."""

    @property
    def full_size_lost(self) -> bool:
        """Small packets pass, and those of full size are lost without a word."""
        return self.passing and self.full_lost >= FULL_SIZE_LOST_AFTER

    @property
    def loss(self) -> float:
        """Share of the last probes that was lost."""
        return self.recent.count(False) / len(self.recent) if self.recent else 0.0

    def record(self, seconds: float | None) -> bool:
        """Take an answer or its absence; whether the verdict changed."""
        before = self.passing, self.settled
        self.recent.append(seconds is not None)
        if seconds is None:
            self.lost += 1
            self.answered = 0
            self.passing = self.passing and self.lost < self.target.lost_after
        else:
            self.lost = 0
            self.answered += 1
            self.passing = self.passing or self.answered >= self.target.passing_after
            self.latency = seconds
            self.smoothed += (seconds - self.smoothed) * _SMOOTHING if self.smoothed else seconds
            self.last_answer = time.time()
        self.settled = self.settled or self.passing or self.lost >= self.target.lost_after
        if self.passing != before[0]:
            self.since = time.time()
        return (self.passing, self.settled) != before

    def record_full_size(self, size: int) -> bool:
        """Take the size of a full-size packet that was answered, 0 for a lost one; whether the verdict changed."""
        before = self.full_size_lost
        self.full_lost = 0 if size else self.full_lost + 1
        if size:
            self.path_mtu = size
        elif self.full_size_lost:
            self.path_mtu = 0
        return self.full_size_lost != before


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
            try:
                await self._follow_socket(measured)
            except OSError:
                # No way there, or no such source of our own, yet.
                self._record(measured, None)
                await asyncio.sleep(measured.target.interval)

    async def _follow_socket(self, measured: Measured) -> None:
        target = measured.target
        # A path through nodes may have been given another one: only a new flow takes that.
        tries = 1 if target.full_size_every else 2 * target.lost_after
        async with Path.open(target.address, target.port, source=target.source) as path:
            for turn in itertools.count():
                start = time.perf_counter()
                self._record(measured, await path.probe(timeout=max(target.interval, 1.0)))
                if measured.lost and measured.lost % tries == 0:
                    return  # a new socket takes another source port, and another route if there is one
                if not measured.lost:
                    await self._full_size(measured, path, turn=turn)
                await asyncio.sleep(max(0.0, target.interval - (time.perf_counter() - start)))

    async def _full_size(self, measured: Measured, path: Path, *, turn: int) -> None:
        every = measured.target.full_size_every
        if every and (measured.full_lost or turn % every == 0):
            if measured.record_full_size(await path.full_size(timeout=1.0)):
                log.info("full size", name=measured.target.name, lost=measured.full_size_lost)
                self._on_change()
        elif not every and turn % _FULL_SIZE_EVERY == 0:
            measured.path_mtu = await path.mtu(timeout=1.0)

    def _record(self, measured: Measured, seconds: float | None) -> None:
        if measured.record(seconds):
            log.info("path", name=measured.target.name, passing=measured.passing)
            self._on_change()
