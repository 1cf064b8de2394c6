"""A work queue of keys: de-duplicated, serial per key, delayable, fresh changes before bulk.

The rules are those of client-go's workqueue and virtual-kubelet's internal/queue:

- a key that is waiting is there once; added again, it keeps the earlier of the two times and the better priority;
- a key that is being worked on is not given out a second time; added meanwhile, it is given out again after `done`;
- `retry` delays by an exponential, jittered backoff per key, which `forget` resets.

With `flow`, which tells whose a key is, keys of one priority are given out in turns, one of each flow in a round: who
adds ten thousand keys does not hold up others who add one (start-time fair queueing with equal costs).
"""

import asyncio
import heapq
import itertools
import random
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_RETRY = 0.05
LAST_RETRY = 60.0


class Priority(IntEnum):
    """Which keys go first: what changed now, before what a first list or a resync brings."""

    FRESH = 0
    INITIAL = 1


class Statistics(NamedTuple):
    """A look at a queue."""

    ready: int
    delayed: int
    working: int


@dataclass(slots=True)
class _Plan:
    """When a key is due. A heap entry counts only while it is the key's current plan."""

    due: float
    priority: Priority
    token: int


@dataclass(slots=True)
class _State(Generic[K]):
    planned: dict[K, _Plan] = field(default_factory=dict)
    working: dict[K, float] = field(default_factory=dict)
    again: dict[K, tuple[float, Priority]] = field(default_factory=dict)
    attempts: dict[K, int] = field(default_factory=dict)


class _Turns(Generic[K]):
    """Numbers of rounds: the next key of a flow is one round after its last, but in none that is over."""

    def __init__(self, flow: Callable[[K], Hashable] | None) -> None:
        self._flow = flow
        self._now: dict[Priority, int] = {}
        self._last: dict[tuple[Priority, Hashable], int] = {}

    def of(self, key: K, priority: Priority) -> int:
        """The round in which the key is to be given out. Without flows there is one round, in order of coming."""
        if self._flow is None:
            return 0
        flow = (priority, self._flow(key))
        turn = max(self._now.get(priority, 0), self._last.get(flow, -1) + 1)
        self._last[flow] = turn
        return turn

    def taken(self, priority: Priority, turn: int) -> None:
        """A key of this round was given out."""
        self._now[priority] = turn

    def reset(self) -> None:
        """None waits."""
        self._now.clear()
        self._last.clear()


class WorkQueue(Generic[K]):
    """See the module. Not thread-safe: one event loop."""

    def __init__(
        self,
        *,
        flow: Callable[[K], Hashable] | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._turns: _Turns[K] = _Turns(flow)
        self._now = clock
        self._rng = rng
        self._state: _State[K] = _State()
        self._ready: list[tuple[Priority, int, int, K]] = []
        self._delayed: list[tuple[float, int, K]] = []
        self._tokens = itertools.count()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        """Keys that wait, now or later."""
        return len(self._state.planned)

    def statistics(self) -> Statistics:
        """How many keys are ready, delayed and being worked on."""
        now = self._now()
        ready = sum(1 for plan in self._state.planned.values() if plan.due <= now)
        return Statistics(ready, len(self._state.planned) - ready, len(self._state.working))

    def add(self, key: K, *, delay: float = 0.0, priority: Priority = Priority.FRESH) -> None:
        """Have `key` worked on after `delay` seconds, or earlier if that is planned already."""
        due = self._now() + max(0.0, delay)
        if key in self._state.working:
            known = self._state.again.get(key)
            if known is not None:
                due, priority = min(due, known[0]), min(priority, known[1])
            self._state.again[key] = (due, priority)
            return
        plan = self._state.planned.get(key)
        if plan is not None:
            if plan.due <= due and plan.priority <= priority:
                return
            due, priority = min(due, plan.due), min(priority, plan.priority)
        self._plan(key, due, priority)

    async def get(self) -> K:
        """The next key that is due; it is the caller's until `done`."""
        while True:
            key = self._take()
            if key is not None:
                return key
            await self._wait()

    def waited(self, key: K) -> float:
        """Seconds from when a key that is being worked on became due until now."""
        return max(0.0, self._now() - self._state.working[key])

    def done(self, key: K) -> None:
        """The work on `key` ended. If it was added meanwhile it is planned now."""
        self._state.working.pop(key, None)
        again = self._state.again.pop(key, None)
        if again is not None:
            self._plan(key, again[0], again[1])

    def retry(self, key: K) -> float:
        """Add `key` again after its backoff; returns the delay in seconds."""
        attempt = self._state.attempts.get(key, 0)
        self._state.attempts[key] = attempt + 1
        delay = min(LAST_RETRY, FIRST_RETRY * 2.0 ** min(attempt, 30)) * (0.5 + self._rng() / 2)
        self.add(key, delay=delay)
        return delay

    def forget(self, key: K) -> None:
        """The work on `key` succeeded: its next failure starts with a short delay again."""
        self._state.attempts.pop(key, None)

    def _plan(self, key: K, due: float, priority: Priority) -> None:
        token = next(self._tokens)
        self._state.planned[key] = _Plan(due, priority, token)
        if due <= self._now():
            self._make_ready(key, priority, token)
        else:
            heapq.heappush(self._delayed, (due, token, key))
        self._changed.set()

    def _take(self) -> K | None:
        self._promote()
        while self._ready:
            priority, turn, token, key = heapq.heappop(self._ready)
            self._turns.taken(priority, turn)
            plan = self._state.planned.get(key)
            if plan is not None and plan.token == token:
                del self._state.planned[key]
                self._state.working[key] = plan.due
                return key
        self._turns.reset()
        return None

    def _make_ready(self, key: K, priority: Priority, token: int) -> None:
        heapq.heappush(self._ready, (priority, self._turns.of(key, priority), token, key))

    def _promote(self) -> None:
        """Move keys that have become due to the ready heap."""
        now = self._now()
        while self._delayed and self._delayed[0][0] <= now:
            _due, token, key = heapq.heappop(self._delayed)
            plan = self._state.planned.get(key)
            if plan is not None and plan.token == token:
                self._make_ready(key, plan.priority, token)

    async def _wait(self) -> None:
        """Until something was added or the next delayed key is due."""
        self._changed.clear()
        timeout = max(0.0, self._delayed[0][0] - self._now()) if self._delayed else None
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            pass
