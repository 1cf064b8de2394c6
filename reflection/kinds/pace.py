"""How fast a consumer namespace may have things written at the provider: who changes objects without end must not
take the provider's API server, nor the process, from its neighbours (abuse test A29)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

BURST: Final = 400
PER_SECOND: Final = 200.0
"""Well above what a namespace does by itself: a Service with 1,000 endpoints is ten slices."""


class Pace:
    """A token bucket for each namespace."""

    def __init__(
        self, *, burst: float = BURST, per_second: float = PER_SECOND, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst = burst
        self._per_second = per_second
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def wait(self, namespace: str) -> float:
        """Seconds until the namespace may write; 0: now, and it is counted."""
        now = self._clock()
        left, at = self._left.get(namespace, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_second)
        if left < 1:
            self._left[namespace] = (left, now)
            return (1 - left) / self._per_second
        self._left[namespace] = (left - 1, now)
        return 0.0

    def forget(self, namespace: str) -> None:
        """It is not reflected any more."""
        self._left.pop(namespace, None)
