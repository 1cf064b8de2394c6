import asyncio
from collections.abc import Awaitable, Callable

import pytest
import structlog

from kube.supervisor import Stage, Supervisor, UnexpectedExitError
from tests.unit.kube.fakeapi import until


def _part(log: list[str], name: str) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        log.append(f"+{name}")
        try:
            await asyncio.Event().wait()
        finally:
            log.append(f"-{name}")

    return run


async def test_starts_in_order_waits_for_readiness_and_stops_in_reverse() -> None:
    log: list[str] = []
    ready = asyncio.Event()
    supervisor = Supervisor()
    supervisor.add("work", _part(log, "work"), stage=Stage.WORKERS)
    supervisor.add("beat", _part(log, "beat"), stage=Stage.HEARTBEAT)

    async def wait_ready() -> None:
        await ready.wait()

    supervisor.add("cache", _part(log, "cache"), stage=Stage.CACHES, ready=wait_ready)
    supervisor.add("serve", _part(log, "serve"), stage=Stage.SERVERS)
    stop = asyncio.Event()
    task = asyncio.create_task(supervisor.run(stop))
    await until(lambda: "+cache" in log)
    await asyncio.sleep(0.02)
    assert log == ["+serve", "+cache"]
    assert not supervisor.started
    ready.set()
    await until(lambda: supervisor.started and "+beat" in log)
    stop.set()
    await task
    assert log == ["+serve", "+cache", "+work", "+beat", "-beat", "-work", "-cache", "-serve"]


@pytest.mark.parametrize("fails", [True, False])
async def test_the_first_that_ends_stops_all_and_is_told(fails: bool) -> None:
    log: list[str] = []
    supervisor = Supervisor()
    supervisor.add("other", _part(log, "other"), stage=Stage.SERVERS)

    async def ends() -> None:
        await asyncio.sleep(0)
        if fails:
            raise ValueError("broken")

    supervisor.add("ends", ends, stage=Stage.WORKERS)
    with structlog.testing.capture_logs(), pytest.raises(ValueError if fails else UnexpectedExitError):
        await supervisor.run(asyncio.Event())
    assert log == ["+other", "-other"]


async def test_a_failure_before_readiness_is_not_waited_for() -> None:
    supervisor = Supervisor()

    async def never_ready() -> None:
        await asyncio.Event().wait()

    async def fails() -> None:
        raise ValueError("broken")

    supervisor.add("fails", fails, stage=Stage.SERVERS, ready=never_ready)
    with structlog.testing.capture_logs(), pytest.raises(ValueError, match="broken"):
        await asyncio.wait_for(supervisor.run(asyncio.Event()), 20)


async def test_stop_during_the_start() -> None:
    log: list[str] = []
    supervisor = Supervisor()

    async def never_ready() -> None:
        await asyncio.Event().wait()

    supervisor.add("serve", _part(log, "serve"), stage=Stage.SERVERS, ready=never_ready)
    supervisor.add("work", _part(log, "work"), stage=Stage.WORKERS)
    stop = asyncio.Event()
    task = asyncio.create_task(supervisor.run(stop))
    await until(lambda: log == ["+serve"])
    stop.set()
    await asyncio.wait_for(task, 20)
    assert log == ["+serve", "-serve"]


async def test_what_does_not_stop_is_left_after_the_grace() -> None:
    supervisor = Supervisor()
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    supervisor.add("stubborn", stubborn, stage=Stage.WORKERS)
    stop = asyncio.Event()
    task = asyncio.create_task(supervisor.run(stop, grace=0.1))
    await until(lambda: supervisor.started)
    stop.set()
    with structlog.testing.capture_logs() as logs:
        await asyncio.wait_for(task, 20)
    assert [entry["part"] for entry in logs] == ["stubborn"]
    release.set()
