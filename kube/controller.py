"""The loop around a reconcile function: take a key, reconcile, decide when to look again, count.

Modelled on controller-runtime's reconcileHandler: one place for concurrency, retries, logging context and metrics.
One dispatcher takes keys and starts a task for each, at most `concurrency` at once: idle workers cost nothing.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

import prometheus_client
import structlog

from kube import metrics
from kube.errors import ApiError, KubeError
from kube.queue import WorkQueue

_log = structlog.get_logger(__name__)

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Result:
    """What a reconcile wants next. Without a result the key rests until something adds it."""

    requeue_after: float | None = None
    """Seconds."""


class TerminalError(Exception):
    """Trying again does not help; it is logged and counted, and the key rests until something adds it."""


Reconcile = Callable[[K], Awaitable[Result | None]]


class Controller(Generic[K]):
    """Runs `reconcile(key)` for keys of `queue`: serial per key, parallel across keys."""

    def __init__(
        self,
        name: str,
        reconcile: Reconcile[K],
        *,
        queue: WorkQueue[K] | None = None,
        concurrency: int = 64,
        registry: prometheus_client.CollectorRegistry | None = None,
    ) -> None:
        self.name = name
        self.queue: WorkQueue[K] = queue if queue is not None else WorkQueue()
        self._reconcile = reconcile
        self._slots = asyncio.Semaphore(concurrency)
        self._metrics = metrics.of(registry)
        self._busy = self._metrics.workers_busy.labels(name)
        self._metrics.queue_depth.labels(name).set_function(lambda: self.queue.statistics().ready)
        self._metrics.queue_delayed.labels(name).set_function(lambda: self.queue.statistics().delayed)
        self._wait_seconds = self._metrics.queue_seconds.labels(name)
        self._work_seconds = self._metrics.reconcile_seconds.labels(name)

    async def run(self) -> None:
        """Until cancelled. Reconciles in flight are cancelled too; what they did is found by the next look."""
        with structlog.contextvars.bound_contextvars(controller=self.name):  # tasks inherit it
            await self._dispatch()

    async def _dispatch(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                await self._slots.acquire()
                try:
                    key = await self.queue.get()
                except BaseException:
                    self._slots.release()
                    raise
                group.create_task(self._work(key), name=f"{self.name}/{key}")

    async def _work(self, key: K) -> None:
        began = time.monotonic()
        self._wait_seconds.observe(self.queue.waited(key))
        self._busy.inc()
        try:
            outcome = await self._attempt(key)
            self._metrics.reconciles.labels(self.name, outcome).inc()
        finally:
            self._busy.dec()
            self._work_seconds.observe(time.monotonic() - began)
            self.queue.done(key)
            self._slots.release()

    async def _attempt(self, key: K) -> str:
        """One reconcile and the decision about the next; returns the outcome for the metric."""
        try:
            result = await self._reconcile(key)
        except TerminalError as error:
            self.queue.forget(key)
            _log.error("reconcile failed for good", key=str(key), error=str(error))
            return "terminal"
        except KubeError as error:
            delay = self._again(key, error)
            _log.warning("reconcile failed", key=str(key), error=str(error), retry_in=round(delay, 2))
            return "error"
        except Exception:  # noqa: BLE001 - a bug of ours in one object must not stop the others (fault F37)
            delay = self.queue.retry(key)
            _log.exception("reconcile crashed", key=str(key), retry_in=round(delay, 2))
            return "error"
        self.queue.forget(key)
        if result is None or result.requeue_after is None:
            return "success"
        self.queue.add(key, delay=result.requeue_after)
        return "requeue"

    def _again(self, key: K, error: KubeError) -> float:
        """Plan the retry: the backoff, but not before the server's Retry-After."""
        told = error.retry_after if isinstance(error, ApiError) else None
        if told is None:
            return self.queue.retry(key)
        self.queue.add(key, delay=told)
        return told
