"""Writing Kubernetes Events: never in the caller's way, bounded, repeats counted instead of repeated.

Like client-go's record package: the same thing said again about the same object patches `count` of the Event that
exists; many messages for one reason are combined into one Event; a source that says too much about one object is cut
off for a while (token bucket per object). Another bucket paces what is written about all objects together: who makes
objects without end, or a provider that tells of each, must not flood the API server (abuse test A29).
"""

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import prometheus_client
import structlog

from kube import metrics
from kube.client import Client, PatchType
from kube.errors import ApiError, KubeError
from kube.objects import Event, ObjectReference
from kube.resources import EVENTS

_log = structlog.get_logger(__name__)

MESSAGE_LIMIT = 1024  # k8s.io/apimachinery validation of events/v1 notes
REASON_LIMIT = 128
QUEUE_LIMIT = 10_000
REMEMBERED = 4096
REPEAT_SECONDS = 600.0
BURST = 25
REFILL_SECONDS = 300.0
TOTAL_BURST = 2000
TOTAL_PER_SECOND = 50.0
SIMILAR = 10
"""Different messages of one reason about one object, within `REPEAT_SECONDS`, from which on they are combined."""
COMBINED = "(combined from similar events): "

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(text: str, *, limit: int = MESSAGE_LIMIT) -> str:
    """`text` without what moves a terminal's cursor or turns its direction (abuse test A33), cut to `limit`."""
    safe = _CONTROL.sub(lambda match: f"\\x{ord(match.group()):02x}", text)
    return safe if len(safe) <= limit else safe[: limit - 3] + "..."


@dataclass(frozen=True, slots=True)
class _Said:
    """One thing to say."""

    ref: ObjectReference
    type: str
    reason: str
    message: str


@dataclass(slots=True)
class _Known:
    """An Event that exists at the API server."""

    name: str
    count: int
    at: float


@dataclass(slots=True)
class _Bucket:
    """How much may still be said about one object, or about all."""

    tokens: float
    at: float

    def take(self, now: float, *, most: float, per_second: float) -> bool:
        """Whether one more may be said."""
        self.tokens = min(most, self.tokens + (now - self.at) * per_second)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass(slots=True)
class _Similar:
    """What was said for one reason about one object."""

    since: float
    messages: set[str]


class EventRecorder:
    """`event` queues, `run` writes."""

    def __init__(
        self,
        client: Client,
        *,
        component: str,
        host: str,
        registry: prometheus_client.CollectorRegistry | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._source = {"component": component, "host": host}
        self._clock = clock
        self._outcomes = metrics.of(registry).events
        self._queue: asyncio.Queue[_Said] = asyncio.Queue(QUEUE_LIMIT)
        self._known: OrderedDict[_Said, _Known] = OrderedDict()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._similar: OrderedDict[tuple[str, str, str], _Similar] = OrderedDict()
        self._total = _Bucket(TOTAL_BURST, clock())

    def event(self, ref: ObjectReference, *, type: str, reason: str, message: str) -> None:
        """Have an Event written about `ref`; dropped, and counted as dropped, if too much is said."""
        said = _Said(ref, type, clean(reason, limit=REASON_LIMIT), clean(message))
        if not self._allowed(ref.uid):
            self._outcomes.labels("dropped").inc()
            return
        try:
            self._queue.put_nowait(said)
        except asyncio.QueueFull:
            self._outcomes.labels("dropped").inc()

    async def run(self) -> None:
        """Write what is queued, one after the other, for ever. A failed write loses that event, not the others."""
        while True:
            said = await self._queue.get()
            await self._pace()
            try:
                await self._write(said)
            except KubeError as error:
                self._outcomes.labels("dropped").inc()
                _log.info("event not written", reason=said.reason, object=said.ref.name, error=str(error))

    def _allowed(self, uid: str) -> bool:
        now = self._clock()
        bucket = self._buckets.pop(uid, None) or _Bucket(BURST, now)
        self._buckets[uid] = bucket
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        return bucket.take(now, most=BURST, per_second=1 / REFILL_SECONDS)

    async def _pace(self) -> None:
        """Wait until one more may be written; meanwhile the queue fills, and is bounded."""
        if not self._take():
            await asyncio.sleep(1 / TOTAL_PER_SECOND)
            self._take()

    def _take(self) -> bool:
        return self._total.take(self._clock(), most=TOTAL_BURST, per_second=TOTAL_PER_SECOND)

    def _combined(self, said: _Said) -> tuple[_Said, str]:
        """What counts as the same, and the message to show for it (client-go's EventAggregatorByReason)."""
        now, key = self._clock(), (said.ref.uid, said.type, said.reason)
        similar = self._similar.pop(key, None)
        if similar is None or now - similar.since > REPEAT_SECONDS:
            similar = _Similar(now, set())
        self._similar[key] = similar
        if len(self._similar) > REMEMBERED:
            self._similar.popitem(last=False)
        if said.message in similar.messages or len(similar.messages) < SIMILAR:
            similar.messages.add(said.message)
            return said, said.message
        return replace(said, message=COMBINED), clean(COMBINED + said.message)

    async def _write(self, said: _Said) -> None:
        said, message = self._combined(said)
        known = self._known.pop(said, None)
        now = self._clock()
        if known is not None and now - known.at < REPEAT_SECONDS and await self._repeat(said, known, message):
            self._remember(said, _Known(known.name, known.count + 1, now))
            self._outcomes.labels("patched").inc()
            return
        created = await self._client.create(
            EVENTS, self._body(said, message), namespace=said.ref.namespace or "default", decode=Event
        )
        self._remember(said, _Known(created.metadata.name, 1, now))
        self._outcomes.labels("created").inc()

    async def _repeat(self, said: _Said, known: _Known, message: str) -> bool:
        """Count up the Event that exists; False if it does not any more."""
        try:
            await self._client.patch(
                EVENTS,
                {"count": known.count + 1, "lastTimestamp": _now(), "message": message},
                name=known.name,
                namespace=said.ref.namespace or "default",
                kind=PatchType.MERGE,
                decode=Event,
            )
        except ApiError as error:
            if error.not_found:
                return False
            raise
        return True

    def _remember(self, said: _Said, known: _Known) -> None:
        self._known[said] = known
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _body(self, said: _Said, message: str) -> dict[str, object]:
        now = _now()
        ref = said.ref
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{ref.name[:200]}.", "namespace": ref.namespace or "default"},
            "involvedObject": {
                "apiVersion": ref.api_version,
                "kind": ref.kind,
                "namespace": ref.namespace,
                "name": ref.name,
                "uid": ref.uid,
            },
            "reason": said.reason,
            "message": message,
            "type": said.type,
            "source": self._source,
            "reportingComponent": self._source["component"],
            "reportingInstance": self._source["host"],
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
