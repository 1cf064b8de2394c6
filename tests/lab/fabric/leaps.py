"""Time that passes at once, in a process of ours: an hour of it need not be waited for."""

from __future__ import annotations

import signal
import time

SIGNAL = signal.SIGUSR1
SECONDS = 60.0
"""By each signal."""


def install() -> None:
    """Have each `SIGNAL` move all clocks of this process on: asyncio's timers are due then, as are our own.

    What other processes and the kernel do takes the time that it takes, so what waits for one of them just then finds
    that it took too long: the product has to bear that, too.
    """
    clocks = {name: getattr(time, name) for name in ("monotonic", "time")}
    ahead = 0.0

    def leap(_number: int, _frame: object) -> None:
        nonlocal ahead
        ahead += SECONDS

    for name, clock in clocks.items():
        setattr(time, name, lambda clock=clock: clock() + ahead)
    # asyncio is woken by every signal that Python handles, and asks the clock then.
    signal.signal(SIGNAL, leap)
