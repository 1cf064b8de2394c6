"""Coroutines that run side by side and end together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable


async def until_one_ends(*works: Awaitable[object]) -> None:
    """Run all until the first ends, then stop the others and wait until they have.

    Raises what the first that ended raised. A cancellation is passed on whenever it comes, while the others stop too:
    `asyncio.TaskGroup` of Python 3.11 would drop it for the error (fixed in 3.13), and a loop that retries goes on.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
