"""A bounded cache with a lifetime per entry, which loads a key once however many ask for it at the same time."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclasses.dataclass(slots=True)
class _Turn:
    """The lock of a key being loaded, and how many wait for it or hold it."""

    lock: asyncio.Lock
    users: int = 0


class ExpiringCache(Generic[K, V]):
    """Least recently used entries leave first; nothing is served beyond its lifetime, failures are not kept."""

    def __init__(self, *, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._clock = clock
        self._entries: collections.OrderedDict[K, tuple[float, V]] = collections.OrderedDict()
        self._turns: dict[K, _Turn] = {}

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, key: K, *, load: Callable[[], Awaitable[tuple[V, float]]]) -> V:
        """The cached value, or what `load` gives: a value and its lifetime in seconds. Its errors go to the caller.

        Callers of the same key wait for one load; if that fails or is cancelled, the next of them tries.
        """
        found = self._fresh(key)
        if found is not None:
            return found[1]
        async with self._turn(key):
            found = self._fresh(key)
            if found is not None:
                return found[1]
            value, lifetime = await load()
            self._store(key, value, lifetime=lifetime)
            return value

    def _fresh(self, key: K) -> tuple[float, V] | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if self._clock() >= entry[0]:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry

    def _store(self, key: K, value: V, *, lifetime: float) -> None:
        if lifetime <= 0:
            return
        self._entries[key] = (self._clock() + lifetime, value)
        self._entries.move_to_end(key)
        while len(self._entries) > self._capacity:
            self._entries.popitem(last=False)

    @contextlib.asynccontextmanager
    async def _turn(self, key: K) -> AsyncIterator[None]:
        turn = self._turns.setdefault(key, _Turn(asyncio.Lock()))
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if turn.users == 0:
                self._turns.pop(key, None)
