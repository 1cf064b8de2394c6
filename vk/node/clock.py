"""Time: what counts seconds (monotonic), what is shown to others (wall clock), and waiting that can be cut short.

Durations are never taken from the wall clock: it jumps (fault F22).
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


def _utc_now() -> datetime:
    return datetime.now(UTC)


REQUEST_SECONDS = 12.0
"""How long a request of the node's may take: more than the 10 s of Retry-After that the transport sits out by itself
(cut off before that, we would come back before the server told us to), and short enough to try again within a Lease."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Both clocks, to be replaced in tests. `monotonic` in seconds."""

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = _utc_now


SYSTEM = Clock()


def rfc3339(moment: datetime) -> str:
    """metav1.Time: whole seconds, UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(moment: datetime) -> str:
    """metav1.MicroTime."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def wait(event: asyncio.Event, *, seconds: float) -> bool:
    """Wait for `event`, at most `seconds`; whether it came. The event is left set."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
    except TimeoutError:
        return False
    return True
