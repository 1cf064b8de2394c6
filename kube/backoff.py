"""Delays between attempts: exponential, jittered, and reset only by lasting health.

A peer that accepts every connection and closes it at once looks healthy a thousand times a minute
(fault F7); so success alone does not reset a :class:`Backoff`, only success that lasts.
"""

import random
from collections.abc import Callable


def jittered(seconds: float, *, rng: Callable[[], float] = random.random) -> float:
    """Between half of ``seconds`` and all of it, so that many clients do not come back together."""
    return seconds * (0.5 + rng() / 2)


def between(low: float, high: float, *, rng: Callable[[], float] = random.random) -> float:
    """A random point of an interval, so that what began together does not end together."""
    return low + (high - low) * rng()


class Backoff:
    """Seconds to wait before the next attempt: ``base``, doubled each time, at most ``maximum``."""

    def __init__(self, *, base: float, maximum: float, rng: Callable[[], float] = random.random) -> None:
        self._base = base
        self._maximum = maximum
        self._rng = rng
        self._attempts = 0

    def next(self) -> float:
        """Count an attempt and return the delay before the next one."""
        delay = min(self._maximum, self._base * 2.0 ** min(self._attempts, 30))
        self._attempts += 1
        return jittered(delay, rng=self._rng)

    def reset(self) -> None:
        """Begin at ``base`` again. To be called after a healthy period, not after a mere success."""
        self._attempts = 0
