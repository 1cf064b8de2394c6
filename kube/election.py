"""Leader election by Lease, with a fence.

The protocol is client-go's (tools/leaderelection): who holds the Lease renews it; others watch it and take
it once it has not changed for its duration *by their own clock*, so clocks need not agree (fault F22).
A holder counts its own time from **before** the request that renewed, and stops two thirds into the
duration, so it has stopped before anyone else can start. Time is CLOCK_BOOTTIME: it runs on while a process is
stopped (fault F20) or a machine suspended.

Whoever writes calls :meth:`LeaderElector.check` right before: not sure means not leader (invariant I10).
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import prometheus_client
import structlog

from kube import metrics
from kube.backoff import jittered
from kube.client import Client
from kube.errors import ApiError, KubeError
from kube.resources import LEASES

_log = structlog.get_logger(__name__)

_RELEASE_TIMEOUT = 8.0
_RENEW_SHARE = 2 / 3


class NotLeader(Exception):  # noqa: N818 - a state that is asked about, not a failure
    """We do not hold the lease, or cannot be sure that we still do."""


def boot_clock() -> float:
    """Seconds that also pass while the process is stopped or the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


_ABSENT = ("", "")
"""What is seen of a lease that is not there."""


class LeaderElector:
    """Takes part in the election for one Lease. ``identity`` must be this process's alone.

    ``duration`` (seconds) is how long others wait for a silent holder; ``retry`` how often anybody tries.
    """

    def __init__(
        self,
        client: Client,
        *,
        namespace: str,
        name: str,
        identity: str,
        duration: float = 15.0,
        retry: float = 2.0,
        registry: prometheus_client.CollectorRegistry | None = None,
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        if duration < 1 or retry >= duration * _RENEW_SHARE:
            raise ValueError("duration must be at least 1 s and retry well below two thirds of it")
        self.leading = asyncio.Event()
        self._following = asyncio.Event()
        self._following.set()
        self.identity = identity
        self.lease = name
        self._client = client
        self._namespace = namespace
        self._name = name
        self._duration = duration
        self._retry = retry
        self._clock = clock
        self._until = float("-inf")
        self._written: dict[str, Any] | None = None
        """Our own last renewal as the API server answered it."""
        self._seen: tuple[str, str] | None = None
        self._seen_at = float("-inf")
        chosen = metrics.of(registry) if registry is not None else client.metrics
        self._gauge = chosen.leading.labels(f"{namespace}/{name}")
        self._log = _log.bind(lease=f"{namespace}/{name}", identity=identity)

    def check(self) -> None:
        """Return if we surely lead at this moment, else raise NotLeader."""
        if self._clock() >= self._until:
            raise NotLeader(f"not the holder of lease {self._namespace}/{self._name}")

    async def lost(self) -> None:
        """Return as soon as we do not lead, which may be at once."""
        await self._following.wait()

    async def run(self) -> None:
        """Stand for election until cancelled; on cancellation give the lease back. Never raises KubeError.

        ``leading`` is set and cleared as we win and lose; after a loss we stand again.
        """
        try:
            while True:
                await self._round()
                await asyncio.sleep(self._pause())
        finally:
            held = self._clock() < self._until
            self._lose()
            if held:
                await self._release()

    def _pause(self) -> float:
        pause = jittered(self._retry)
        if self.leading.is_set():
            # Be there when our own time ends, to clear `leading`.
            return max(0.0, min(pause, self._until - self._clock()))
        return pause

    async def _round(self) -> None:
        """One attempt to take or renew."""
        timeout = max(0.5, min(self._duration * _RENEW_SHARE / 2, 5.0))
        try:
            async with asyncio.timeout(timeout):
                won = await self._attempt()
        except (KubeError, TimeoutError) as error:
            self._log.warning("lease_attempt_failed", error=str(error) or type(error).__name__)
            won = None
        if won is not None:
            self._until = won
        if won is not None and self._clock() < won:
            self._win()
        elif self._clock() >= self._until:
            self._lose()

    async def _attempt(self) -> float | None:
        """Return until when we lead, or None: nothing known. Minus infinity: somebody else leads."""
        if self.leading.is_set() and (renewed := await self._renew()) is not None:
            return renewed
        lease = await self._read()
        if lease is None:
            return await self._restore()
        spec: dict[str, Any] = lease.get("spec") or {}
        holder = str(spec.get("holderIdentity") or "")
        mark = (holder, str(lease["metadata"].get("resourceVersion", "")))
        if mark != self._seen:
            self._seen, self._seen_at = mark, self._clock()
        if holder and holder != self.identity:
            held_for = float(spec.get("leaseDurationSeconds") or self._duration)
            if self._clock() < self._seen_at + held_for:
                return float("-inf")
            self._log.info("lease_expired", holder=holder)
        began = self._clock()
        return await self._write(lease, began=began)

    async def _renew(self) -> float | None:
        """Write the lease anew as we wrote it last, unread; None if it is not that any more, or if we do not know."""
        if self._written is None:
            return None
        began = self._clock()
        try:
            await self._replace(self._written)
        except ApiError as error:
            if error.status == 409 or error.not_found:
                return None
            raise
        return began + self._duration * _RENEW_SHARE

    async def _replace(self, lease: dict[str, Any]) -> None:
        """Renew in the very state that is given. Raises ApiError 409 if it has another one."""
        self._written = None  # until an answer says what it is
        body = self._renewed(lease)
        self._written = await self._client.replace(LEASES, body, namespace=self._namespace, name=self._name)

    async def _restore(self) -> float:
        """There is no lease. If there was one, its holder counts on its time, and may not know yet.

        Only a process that has never seen one makes it at once: in a new cluster nobody should have to wait.
        """
        began = self._clock()
        if self._seen is not None and began >= self._until:
            if self._seen != _ABSENT:
                self._seen, self._seen_at = _ABSENT, began
            if began < self._seen_at + self._duration:
                return float("-inf")
        return await self._write(None, began=began)

    async def _read(self) -> dict[str, Any] | None:
        try:
            return await self._client.get(LEASES, namespace=self._namespace, name=self._name)
        except ApiError as error:
            if error.not_found:
                return None
            raise

    async def _write(self, lease: dict[str, Any] | None, *, began: float) -> float:
        try:
            if lease is None:
                await self._client.create(LEASES, self._renewed(None), namespace=self._namespace)
            else:
                await self._replace(lease)
        except ApiError as error:
            if error.status == 409:
                # Somebody was quicker. If we lead, the next look says whether it was ourselves (a lost answer).
                return self._until
            raise
        return began + self._duration * _RENEW_SHARE

    def _renewed(self, lease: dict[str, Any] | None) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        old: dict[str, Any] = (lease or {}).get("spec") or {}
        ours = old.get("holderIdentity") == self.identity
        spec = {
            **old,
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, round(self._duration)),
            "acquireTime": old.get("acquireTime") if ours and old.get("acquireTime") else now,
            "renewTime": now,
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (0 if ours or lease is None else 1),
        }
        metadata = (lease or {}).get("metadata") or {"name": self._name, "namespace": self._namespace}
        return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}

    async def _release(self) -> None:
        """Give the lease back so that the next holder need not wait. Best effort, within a few seconds."""
        try:
            async with asyncio.timeout(_RELEASE_TIMEOUT):
                while not await self._gave_back():
                    pass
        except (KubeError, TimeoutError) as error:
            self._log.warning("lease_not_released", error=str(error) or type(error).__name__)

    async def _gave_back(self) -> bool:
        """One attempt; False if our own last renewal came between, whose answer we did not wait for."""
        lease = await self._read()
        if lease is None or (lease.get("spec") or {}).get("holderIdentity") != self.identity:
            return True
        body = self._renewed(lease)
        body["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            await self._client.replace(LEASES, body, namespace=self._namespace, name=self._name)
        except ApiError as error:
            if error.status == 409:
                return False
            raise
        return True

    def _win(self) -> None:
        if not self.leading.is_set():
            self._log.info("leading")
            self.leading.set()
            self._following.clear()
            self._gauge.set(1)

    def _lose(self) -> None:
        self._until = float("-inf")
        if self.leading.is_set():
            self._log.warning("no_longer_leading")
            self.leading.clear()
            self._following.set()
            self._gauge.set(0)
