import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog
from prometheus_client import CollectorRegistry

from kube.controller import Controller, Result, TerminalError
from kube.errors import ApiError
from tests.unit.kube.fakeapi import until

Reconcile = Callable[[str], Awaitable[Result | None]]


@asynccontextmanager
async def running(
    reconcile: Reconcile, *, concurrency: int = 4, registry: CollectorRegistry | None = None
) -> AsyncIterator[Controller[str]]:
    controller: Controller[str] = Controller("c", reconcile, concurrency=concurrency, registry=registry)
    task = asyncio.create_task(controller.run())
    try:
        yield controller
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_serial_per_key_parallel_across_keys_and_bounded() -> None:
    busy: set[str] = set()
    most = 0
    counts: dict[str, int] = {}

    async def reconcile(key: str) -> None:
        nonlocal most
        assert key not in busy
        busy.add(key)
        most = max(most, len(busy))
        await asyncio.sleep(0.005)
        busy.remove(key)
        counts[key] = counts.get(key, 0) + 1

    async with running(reconcile) as controller:
        for _ in range(20):
            for key in "abcdefgh":
                controller.queue.add(key)
            await asyncio.sleep(0.002)
        await until(lambda: not busy and len(controller.queue) == 0 and len(counts) == 8)
    assert most == 4


async def test_a_change_during_the_work_is_worked_on_after_it() -> None:
    runs = 0
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def reconcile(key: str) -> None:
        nonlocal runs
        runs += 1
        inside.set()
        await go_on.wait()

    async with running(reconcile) as controller:
        controller.queue.add("a")
        await inside.wait()
        controller.queue.add("a")
        controller.queue.add("a")
        go_on.set()
        await until(lambda: runs == 2)
        await asyncio.sleep(0.02)
    assert runs == 2


async def test_f37_a_key_that_fails_is_tried_again_and_others_go_on() -> None:
    tries = 0
    good: list[str] = []

    async def reconcile(key: str) -> None:
        nonlocal tries
        if key == "bad":
            tries += 1
            raise ValueError("a bug")
        good.append(key)

    with structlog.testing.capture_logs() as logs:
        async with running(reconcile) as controller:
            controller.queue.add("bad")
            controller.queue.add("good")
            await until(lambda: tries == 3)
    assert good == ["good"]
    assert all("a bug" not in str(entry.get("event")) for entry in logs)
    assert len([entry for entry in logs if entry["log_level"] == "error"]) == 3


async def test_terminal_errors_are_not_tried_again_and_results_are_counted() -> None:
    registry = CollectorRegistry()
    runs: list[str] = []

    async def reconcile(key: str) -> Result | None:
        runs.append(key)
        if key == "terminal":
            raise TerminalError("no")
        return Result(requeue_after=0.01) if key == "again" and runs.count("again") < 3 else None

    def count(result: str) -> float:
        labels = {"controller": "c", "result": result}
        return registry.get_sample_value("isthmus_reconcile_total", labels) or 0

    with structlog.testing.capture_logs():
        async with running(reconcile, registry=registry) as controller:
            for key in ("terminal", "again", "fine"):
                controller.queue.add(key)
            await until(lambda: runs.count("again") == 3)
            await asyncio.sleep(0.1)
    assert runs.count("terminal") == 1
    assert (count("terminal"), count("requeue"), count("success")) == (1, 2, 2)


async def test_f15_retry_after_of_the_server_is_kept() -> None:
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def reconcile(key: str) -> None:
        times.append(loop.time())
        if len(times) == 1:
            raise ApiError(status=429, reason="TooManyRequests", retry_after=0.5)

    with structlog.testing.capture_logs():
        async with running(reconcile) as controller:
            controller.queue.add("a")
            await until(lambda: len(times) == 2)
    assert times[1] - times[0] >= 0.5
