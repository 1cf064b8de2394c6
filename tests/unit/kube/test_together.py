"""Work side by side: the first that ends stops the others, and a cancellation is never lost."""

from __future__ import annotations

import asyncio

import pytest

from kube.together import until_one_ends


class _BrokenError(Exception):
    pass


async def _fails(*, turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    raise _BrokenError


async def _stops_slowly(stopped: list[bool], *, turns: int) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        for _ in range(turns):
            await asyncio.sleep(0)
        stopped.append(True)


async def test_the_first_that_ends_stops_the_others_and_its_error_is_told() -> None:
    stopped: list[bool] = []
    with pytest.raises(_BrokenError):
        await until_one_ends(_stops_slowly(stopped, turns=3), _fails(turns=2))
    assert stopped == [True]
    await until_one_ends(_stops_slowly(stopped, turns=3), asyncio.sleep(0))
    assert stopped == [True, True]


@pytest.mark.parametrize("turn", range(12))
async def test_who_retries_can_be_cancelled_at_any_time(turn: int) -> None:
    stopped: list[bool] = []

    async def retry() -> None:
        while True:
            try:
                await until_one_ends(_stops_slowly(stopped, turns=2), _fails(turns=2))
            except _BrokenError:
                await asyncio.sleep(3600)

    task = asyncio.ensure_future(retry())
    for _ in range(turn):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=5)
    task.cancel()
    assert done, "it goes on"
    assert task.cancelled()
