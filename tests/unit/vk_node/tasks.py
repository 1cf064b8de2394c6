"""Running a part for the time of a test, and waiting for what it should bring about."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager


@asynccontextmanager
async def running(*parts: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run parts until the block ends; a part that fails fails the test."""

    async def run(part: Callable[[], Awaitable[None]]) -> None:
        await part()

    tasks = [asyncio.create_task(run(part)) for part in parts]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Callable[[], bool], *, seconds: float = 20.0) -> None:
    """Wait until it holds; TimeoutError if it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the fakes have no event for each thing a test may wait for
            await asyncio.sleep(0.01)
