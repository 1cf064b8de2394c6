"""What this process itself uses: the overhead of its node, as the kubelet's own is part of a real node's figures.

It also keeps an idle node visible, for metrics-server drops a node that shows no CPU or no memory at all.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path

_STATM = Path("/proc/self/statm")


@dataclasses.dataclass(frozen=True, slots=True)
class OwnUsage:
    """CPU seconds since the process began, CPU now, resident memory."""

    cpu_seconds: float
    cpu_nanocores: int
    memory_bytes: int


class SelfUsage:
    """Reads the process's own figures."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.started_at = clock() - time.process_time()
        """Unix seconds from which on the node's counter counts."""
        self._at = clock()
        self._seconds = time.process_time()

    def read(self) -> OwnUsage:
        """The figures now; CPU per second since the last call."""
        now, seconds = self._clock(), time.process_time()
        elapsed = now - self._at
        nanocores = int((seconds - self._seconds) / elapsed * 1e9) if elapsed > 0 else 0
        self._at, self._seconds = now, seconds
        return OwnUsage(seconds, max(0, nanocores), _resident_bytes())


def _resident_bytes() -> int:
    try:
        pages = int(_STATM.read_bytes().split()[1])
    except (OSError, ValueError, IndexError):
        return 1
    return pages * os.sysconf("SC_PAGE_SIZE")
