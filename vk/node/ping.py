"""Our own ping of the provider's API server: the Node is Ready only while it answers (invariant I6).

Watches notice a dead link late (half-open TCP, fault F5), so the provider is asked every 2 s. It counts as away when
nothing has been heard for 7 s and at least two questions in a row have failed: a dead provider is noticed in under 10
s (2 s to the next ping, its 3 s, the next one's 3 s), while a blip of 5 s and a pause of this very process are not
failures of the provider (faults F2, F3).

What counts as an answer: `/readyz` with "ok"; 403, for then the server lives and knows us but hides /readyz; 429, it
lives and is busy. What does not: 401, since with a refused credential nothing works; 5xx, the server says itself that
it is not ready; a body that no API server would send, which is something else at that address.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry, Histogram

from kube.errors import KubeError
from kube.transport import StreamedResponse
from vk.node.clock import SYSTEM, Clock
from vk.node.signals import Notifier, Verdict

PATH = "/readyz"
PERIOD_SECONDS = 2.0
TIMEOUT_SECONDS = 3.0
GRACE_SECONDS = 7.0
MISSES = 2
_BODY_LIMIT = 1024  # read to its end, a short body leaves the connection open for the next ping

_log = structlog.get_logger(__name__)
_REACHED = Verdict(ok=True, reason="ProviderReachable", message="the provider's API server answers")


class Pinged(Protocol):
    """The one thing that is needed of a client: a request that is neither queued, nor limited, nor repeated."""

    def stream(
        self, method: str, path: str, *, params: Sequence[tuple[str, str]]
    ) -> AbstractAsyncContextManager[StreamedResponse]:
        """Send a request and give the answer, whatever its status."""


@dataclass(slots=True)
class Reachability:
    """Decides from single pings whether the provider is there. Pure; `now` is monotonic seconds."""

    started: float
    _heard: float | None = None
    _misses: int = 0
    verdict: Verdict | None = None

    def answered(self, now: float) -> None:
        """A ping succeeded: the provider is there."""
        self._heard = now
        self._misses = 0
        self.verdict = _REACHED

    def missed(self, now: float, verdict: Verdict) -> None:
        """A ping failed, `verdict` says how: the provider is away if that has gone on for long enough."""
        self._misses += 1
        silence = now - (self.started if self._heard is None else self._heard)
        if self._misses < MISSES or silence < GRACE_SECONDS:
            return
        if (
            self.verdict is None or self.verdict.reason != verdict.reason
        ):  # the same again would only be a needless write
            self.verdict = verdict


class ProviderPing:
    """Pings for as long as `run` runs, one request at a time. `verdict` is what is known, `changed` tells of news."""

    def __init__(
        self, client: Pinged, *, clock: Clock = SYSTEM, registry: CollectorRegistry | None = None, path: str = PATH
    ) -> None:
        self.changed = Notifier()
        self.answered = asyncio.Event()
        self._client = client
        self._clock = clock
        self._path = path
        self._state = Reachability(started=clock.monotonic())
        self._seconds = Histogram(
            "isthmus_provider_ping_seconds",
            "Time of a ping of the provider's API server",
            ["result"],
            registry=registry,
        )

    @property
    def verdict(self) -> Verdict | None:
        """Whether the provider is there; None before enough is known."""
        return self._state.verdict

    async def run(self) -> None:
        """Ping forever, a period from start to start; the next follows at once where one took longer."""
        while True:
            started = self._clock.monotonic()
            await self._ping_once(started)
            await asyncio.sleep(max(0.0, PERIOD_SECONDS - (self._clock.monotonic() - started)))

    async def _ping_once(self, started: float) -> None:
        failure = await self._ask()
        now = self._clock.monotonic()
        self._seconds.labels("ok" if failure is None else "error").observe(now - started)
        before = self._state.verdict
        if failure is None:
            self._state.answered(now)
            self.answered.set()
        else:
            self._state.missed(now, failure)
            _log.info("provider_ping_failed", reason=failure.reason, error=failure.message)
        if self._state.verdict != before:
            self._tell(self._state.verdict)

    async def _ask(self) -> Verdict | None:
        """One ping; None if it was answered."""
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                async with self._client.stream("GET", self._path, params=()) as response:
                    return judge(response.status, await response.read(_BODY_LIMIT))
        except TimeoutError:
            return _away(
                "ProviderUnreachable", f"no answer from the provider's API server within {TIMEOUT_SECONDS:g} s"
            )
        except KubeError as error:
            return _away("ProviderUnreachable", f"the provider's API server cannot be reached: {error}")

    def _tell(self, verdict: Verdict | None) -> None:
        if verdict is not None:
            log = _log.info if verdict.ok else _log.warning
            log("provider_reachability_changed", ok=verdict.ok, reason=verdict.reason, detail=verdict.message)
        self.changed.notify()


def judge(status: int, body: bytes) -> Verdict | None:
    """What an answer says about the provider; None: it is there."""
    if status in (403, 429) or (status == 200 and body.strip() == b"ok"):
        return None
    if status == 401:
        return _away("ProviderRefusesCredential", "the provider does not accept our credential (401); renew it")
    if status >= 500:
        return _away("ProviderNotReady", f"the provider's API server is not ready ({status})")
    return _away("ProviderNotKubernetes", f"what answers ({status}) at the provider's address is no API server")


def _away(reason: str, message: str) -> Verdict:
    return Verdict(ok=False, reason=reason, message=message[:512])
