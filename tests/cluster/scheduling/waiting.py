"""Waiting for API servers, and tasks that run meanwhile."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")
Json = dict[str, Any]
LONG = 60.0
"""Seconds that anything may take on a busy machine."""


async def until(probe: Callable[[], Awaitable[T]], *, what: str, seconds: float = LONG) -> T:
    """The first true value of `probe`; AssertionError if none comes in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = await probe()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}; last seen: {value!r}"
        await asyncio.sleep(0.1)


@asynccontextmanager
async def running(*tasks: tuple[str, Callable[[], Awaitable[None]]]) -> AsyncIterator[None]:
    """Have tasks run meanwhile; if one fails, so does the test."""
    async with asyncio.TaskGroup() as group:
        made = [group.create_task(_forever(run), name=name) for name, run in tasks]
        try:
            yield
        finally:
            for task in made:
                task.cancel()


async def _forever(run: Callable[[], Awaitable[None]]) -> None:
    await run()
    raise AssertionError("a task that should run for ever has ended")


def free_port(host: str) -> int:
    """A TCP port that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
