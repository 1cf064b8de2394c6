"""One owner for every task of a process: ordered start, first exit stops all, reverse stop within one grace.

The order is that of controller-runtime's manager: servers (health first) before clients, caches, workers and the
heartbeat. Stopping goes the other way, so that workers can still write while caches and servers are up.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum

import structlog

_log = structlog.get_logger(__name__)

START_SECONDS = 60.0


class Stage(IntEnum):
    """When a runnable starts: lower first. It stops in the opposite order."""

    SERVERS = 0
    CLIENTS = 1
    CACHES = 2
    WORKERS = 3
    HEARTBEAT = 4


class UnexpectedExitError(Exception):
    """A runnable that should run for ever ended by itself."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} ended though nobody asked it to")


@dataclass(frozen=True, slots=True)
class _Runnable:
    name: str
    run: Callable[[], Awaitable[None]]
    stage: Stage
    ready: Callable[[], Awaitable[None]] | None


class Supervisor:
    """Owns the tasks of a process. Add everything first, then `run` once."""

    def __init__(self) -> None:
        self._runnables: list[_Runnable] = []
        self._started = asyncio.Event()

    @property
    def started(self) -> bool:
        """Whether every stage is up and ready; false again while stopping."""
        return self._started.is_set()

    def add(
        self,
        name: str,
        run: Callable[[], Awaitable[None]],
        *,
        stage: Stage,
        ready: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Have `run` (for ever) in `stage`; the next stage starts when `ready` returns."""
        self._runnables.append(_Runnable(name, run, stage, ready))

    async def run(self, stop: asyncio.Event, *, grace: float = 20.0) -> None:
        """Start all, wait for `stop` or the first that ends, stop all within `grace` seconds.

        Raises what the first to fail raised, or `UnexpectedExitError`. Cancellation stops all and is passed on.
        """
        tasks: dict[asyncio.Task[None], _Runnable] = {}
        stopping = asyncio.create_task(stop.wait(), name="stop signal")
        try:
            await self._start(tasks, stopping)
            if not stop.is_set():
                self._started.set()
                await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
            _raise_first(tasks)
        finally:
            self._started.clear()
            stopping.cancel()
            await _stop(tasks, grace=grace)
            await asyncio.wait({stopping})

    async def _start(self, tasks: dict[asyncio.Task[None], _Runnable], stopping: "asyncio.Task[bool]") -> None:
        for stage in Stage:
            members = [r for r in self._runnables if r.stage is stage]
            for runnable in members:
                tasks[asyncio.create_task(_guard(runnable), name=runnable.name)] = runnable
            for runnable in members:
                if runnable.ready is not None and not await self._await_ready(runnable, tasks, stopping):
                    return

    async def _await_ready(
        self, runnable: _Runnable, tasks: dict[asyncio.Task[None], _Runnable], stopping: "asyncio.Task[bool]"
    ) -> bool:
        """Wait for readiness, a failure anywhere, or the stop signal. True if the start may go on."""
        assert runnable.ready is not None
        ready = asyncio.ensure_future(runnable.ready())
        try:
            while True:
                done, _ = await asyncio.wait(
                    {ready, stopping, *tasks}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if done:
                    break
                _log.warning("still waiting", part=runnable.name, stage=runnable.stage.name)
            _raise_first(tasks)
            if ready in done:
                ready.result()
            return ready in done and stopping not in done
        finally:
            ready.cancel()
            await asyncio.wait({ready})


async def _guard(runnable: _Runnable) -> None:
    await runnable.run()


def _raise_first(tasks: dict[asyncio.Task[None], _Runnable]) -> None:
    for task, runnable in tasks.items():
        if not task.done():
            continue
        if task.cancelled():
            raise UnexpectedExitError(runnable.name)
        error = task.exception()
        _log.error("part ended", part=runnable.name, error=repr(error))
        raise error if error is not None else UnexpectedExitError(runnable.name)


async def _stop(tasks: dict[asyncio.Task[None], _Runnable], *, grace: float) -> None:
    """Cancel stage by stage in reverse; all stages share one deadline."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + grace
    for stage in reversed(Stage):
        members = {task for task, runnable in tasks.items() if runnable.stage is stage}
        for task in members:
            task.cancel()
        if members:
            _done, hung = await asyncio.wait(members, timeout=max(0.05, deadline - loop.time()))
            for task in hung:
                _log.error("part did not stop in time", part=tasks[task].name)
        for task in members:
            if task.done() and not task.cancelled() and task.exception() is not None:
                _log.warning("part failed while stopping", part=tasks[task].name, error=repr(task.exception()))
