"""How many requests to have in flight at one API server, found out by trying.

Additive increase, multiplicative decrease, as TCP does it: the limit grows by one per round of
answers while it is what holds us back, and shrinks when the server says 429 or 503 or when answers
become slow. A Retry-After holds new requests back altogether for that time (fault F15). There is no
fixed rate: a fast server is used fully, a slow one is not piled upon.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

# A pause longer than this is left to the caller's own back-off.
_LONGEST_PAUSE = 30.0
# One congestion event cuts once: its echoes, requests sent before the cut, do not cut again.
_CUT_INTERVAL = 1.0
_CUT = 0.7


class AdaptiveLimiter:
    """``async with limiter:`` around a request, then :meth:`observe` its outcome.

    ``slow`` is the latency in seconds from which an answer counts as congestion: the API servers' own
    service level for single objects is 1 s at the 99th percentile, so twice that is trouble.
    Waiters are served in order.
    """

    def __init__(
        self,
        *,
        start: int = 32,
        minimum: int = 1,
        maximum: int = 256,
        slow: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 1 <= minimum <= start <= maximum:
            raise ValueError("1 <= minimum <= start <= maximum")
        self._limit = float(start)
        self._minimum = minimum
        self._maximum = maximum
        self._slow = slow
        self._clock = clock
        self._in_flight = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._last_cut = float("-inf")
        self._paused_until = float("-inf")
        self._wake_timer: asyncio.TimerHandle | None = None

    @property
    def limit(self) -> int:
        """Requests that may be in flight at once, now."""
        return int(self._limit)

    @property
    def in_flight(self) -> int:
        """Requests in flight."""
        return self._in_flight

    async def __aenter__(self) -> None:
        if not self._waiters and self._may_start():
            self._in_flight += 1
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._wake()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                # The slot was ours already: hand it on.
                self._release()
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def observe(self, status: int, latency: float, *, retry_after: float | None = None) -> None:
        """Learn from one answer: its HTTP status and how many seconds it took."""
        if status in {429, 503}:
            self._cut()
            if retry_after:
                self._pause(min(retry_after, _LONGEST_PAUSE))
        elif latency > self._slow:
            self._cut()
        elif self._in_flight + 1 >= self.limit:
            self._limit = min(self._limit + 1.0 / self._limit, float(self._maximum))
        self._wake()

    def _cut(self) -> None:
        now = self._clock()
        if now - self._last_cut >= _CUT_INTERVAL:
            self._last_cut = now
            self._limit = max(float(self._minimum), self._limit * _CUT)

    def _pause(self, seconds: float) -> None:
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    def _may_start(self) -> bool:
        return self._in_flight < self.limit and self._clock() >= self._paused_until

    def _release(self) -> None:
        self._in_flight -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiters and self._may_start():
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._in_flight += 1
                waiter.set_result(None)
        remaining = self._paused_until - self._clock()
        if self._waiters and remaining > 0 and self._wake_timer is None:
            self._wake_timer = asyncio.get_running_loop().call_later(remaining, self._on_timer)

    def _on_timer(self) -> None:
        self._wake_timer = None
        self._wake()
