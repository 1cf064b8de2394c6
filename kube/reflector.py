"""Keeping a :class:`kube.store.Store` equal to a selection of objects at an API server, for ever.

List, watch from there, resume where a watch broke, list again when the server has forgotten (410)
and, as a net under all of it, every ten minutes: a watch event lost in silence is repaired then (F9).
The list is a streaming one where the server has them (KEP-3157: constant memory in the server, one
request), else pages. Nothing is taken from a list that is not complete.

Two back-offs keep a sick server safe from us. Both are reset by a watch that lives for a while, not by
one that opens: one that is closed at once, a thousand times, is retried every few seconds (F7).
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

import prometheus_client
import structlog
from msgspec import Raw

from kube import decoding, metrics, watch
from kube.backoff import Backoff, between
from kube.client import Client
from kube.errors import ApiError, KubeError, ProtocolError
from kube.objects import HasMetadata, Metadata, WithMetadata, revision
from kube.resources import Resource
from kube.store import Change, Index, Key, MutableStore, Store

_log = structlog.get_logger(__name__)

T = TypeVar("T", bound=HasMetadata)

# Objects handled between two turns of the event loop.
_SLICE = 200
# So often in a row a list may be older than what we know before we believe that the server's data went back.
_STALE_LISTS = 5
# After so many streaming lists that did not come to their end mark, the next is a paged one.
_STREAM_FAILURES = 2


@dataclass(frozen=True, slots=True)
class Timing:
    """Periods in seconds. ``resync`` varies by a tenth; ``healthy`` is how long a watch must live to count."""

    inactivity: float = watch.INACTIVITY
    resync: float = 600.0
    healthy: float = 30.0
    retry_first: float = 0.1
    retry_most: float = 3.0
    # Refused: may be lasting, or the Node authoriser a moment behind.
    refused_first: float = 0.2
    refused_most: float = 30.0
    page: int = 500


class _End(Enum):
    CLOSED = "closed by the server"
    RESYNC = "time to list again"
    UNSUPPORTED = "no streaming lists here"


class Reflector(Generic[T]):
    """Owns a store. :meth:`run` it for ever; readers wait for ``synced``.

    ``on_change`` is called for each change, in the event loop, after the store has it; it must be
    quick and is expected to put a key into a queue. An exception from it is logged.

    ``kept`` says what stays of an object in the store (its metadata must); changes still carry the whole.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        *,
        decode: type[T],
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        indexes: Mapping[str, Index[T]] | None = None,
        kept: Callable[[T], T] | None = None,
        on_change: Callable[[Change[T]], None],
        registry: prometheus_client.CollectorRegistry | None = None,
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.synced = asyncio.Event()
        self.last_error: KubeError | None = None
        self._client = client
        self._resource = resource
        self._scope = watch.Scope(resource, namespace, label_selector, field_selector)
        self._decode = decode
        self._on_change = on_change
        self._timing = timing or Timing()
        self._clock = clock
        self._metrics = metrics.of(registry) if registry is not None else client.metrics
        self._labels = (client.name, resource.plural, str(self._scope))
        self._log = _log.bind(client=client.name, resource=resource.plural, scope=str(self._scope))
        self._store: MutableStore[T] = MutableStore(indexes=indexes, kept=kept)
        self._retry = Backoff(base=self._timing.retry_first, maximum=self._timing.retry_most)
        self._refused = Backoff(base=self._timing.refused_first, maximum=self._timing.refused_most)
        self._resource_version = ""
        self._seen = -1
        self._cause = "start"
        self._stale_lists = 0
        self._streaming = True
        self._stream_failures = 0
        self._open_since: float | None = None
        self._well = False
        self._contact = float("-inf")
        self._resync_at = float("inf")

    @property
    def store(self) -> Store[T]:
        """The objects, read-only. Complete once ``synced`` is set, and correct as of the last contact."""
        return self._store

    @property
    def healthy(self) -> bool:
        """The last watch opened, did not fail, and the server has been heard of within the inactivity period.

        The moment between two watches, when the server's time for one is over, does not count as ill. Nor does the
        silence of a watch that gets no bookmarks.
        """
        silent = self._resource.bookmarks and self.last_contact_age > self._timing.inactivity
        return self._well and not silent

    @property
    def last_contact_age(self) -> float:
        """Seconds since the server last said something; infinite before."""
        return self._clock() - self._contact

    async def run(self) -> None:
        """Run until cancelled. Only bugs make it raise."""
        self._metrics.watch_age.labels(*self._labels).set_function(lambda: self.last_contact_age)
        self._metrics.stored.labels(*self._labels).set_function(lambda: len(self._store))
        try:
            while True:
                delay = await self._session()
                await asyncio.sleep(delay)
        finally:
            self._well = False
            self._metrics.watch_age.remove(*self._labels)
            self._metrics.stored.remove(*self._labels)

    async def _session(self) -> float:
        """List if need be, watch until that ends, and return the delay before the next session."""
        end: _End | KubeError
        try:
            end = await self._list_and_watch()
        except KubeError as error:
            end = error
        lived = 0.0 if self._open_since is None else self._clock() - self._open_since
        self._open_since = None
        if lived >= self._timing.healthy:
            self._retry.reset()
            self._refused.reset()
        if isinstance(end, KubeError):
            return self._failed(end)
        if end is _End.RESYNC:
            self._forget("resync")
        elif end is _End.CLOSED and not self._resource.bookmarks:
            self._forget("no bookmarks")  # etcd keeps a position for five minutes only
        if end is _End.CLOSED and lived < self._timing.healthy:
            return self._retry.next()
        return 0.0

    def _failed(self, error: KubeError) -> float:
        self._well = False
        self.last_error = error
        delay = self._retry.next()
        if isinstance(error, ApiError):
            if error.gone or _invalid_position(error):
                self._forget("expired")
            elif error.status in {401, 403, 404, 405}:
                delay = self._refused.next()
            delay = max(delay, error.retry_after or 0.0)
        self._log.warning("watch_failed", error=str(error), retry_in=round(delay, 3))
        return delay

    def _forget(self, cause: str) -> None:
        self._resource_version = ""
        self._cause = cause

    async def _list_and_watch(self) -> _End:
        if self._resource_version:
            return await self._watch()
        if self._streaming and self._stream_failures < _STREAM_FAILURES:
            return await self._streamed()
        self._stream_failures = 0
        await self._listed()
        return await self._watch()

    async def _listed(self) -> None:
        """A paged list."""
        items: dict[Key, T] = {}
        undecodable: set[Key] = set()
        revision = ""
        pages = self._client.pages(self._resource, self._scope.path, params=self._scope.params, page=self._timing.page)
        async with aclosing(pages):
            async for raws, revision in pages:  # noqa: B007 - the last page's is wanted
                self._contact = self._clock()
                for raw in raws:
                    self._take(raw, items, undecodable)
                await asyncio.sleep(0)
        await self._adopt(items, undecodable, resource_version=revision)

    async def _streamed(self) -> _End:
        """A streaming list that goes on as a watch. Until its end mark nothing counts."""
        items: dict[Key, T] | None = {}
        undecodable: set[Key] = set()
        self._stream_failures += 1
        batches = watch.frames(
            self._client,
            self._scope,
            resource_version="",
            initial_events=True,
            inactivity=self._timing.inactivity,
            duration=self._timing.resync * 1.1 + 1.0,
        )
        try:
            async with aclosing(batches):
                async for batch in batches:
                    self._contact = self._clock()
                    for frame in batch:
                        if items is None:
                            self._handle(frame)
                        elif (revision := self._collect(frame, items, undecodable)) is not None:
                            await self._adopt(items, undecodable, resource_version=revision)
                            items = None
                            self._stream_failures = 0
                            self._opened()
                    if items is None and self._clock() >= self._resync_at:
                        return _End.RESYNC
                    await asyncio.sleep(0)
        except ApiError as error:
            if self._resource_version or error.status not in {400, 422}:
                raise
            self._log.info("streaming_list_refused", error=str(error))
            self._streaming = False
            return _End.UNSUPPORTED
        if items is not None:
            raise ProtocolError(f"WATCH {self._scope.path}: ended before the end of the initial events")
        return _End.RESYNC if self._clock() >= self._resync_at else _End.CLOSED

    async def _watch(self) -> _End:
        batches = watch.frames(
            self._client,
            self._scope,
            resource_version=self._resource_version,
            inactivity=self._timing.inactivity,
            duration=self._resync_at - self._clock() + 1.0,
        )
        async with aclosing(batches):
            async for batch in batches:
                self._contact = self._clock()
                if self._open_since is None:
                    self._opened()
                for frame in batch:
                    self._handle(frame)
                if self._clock() >= self._resync_at:
                    return _End.RESYNC
                await asyncio.sleep(0)
        return _End.RESYNC if self._clock() >= self._resync_at else _End.CLOSED

    def _opened(self) -> None:
        self._open_since = self._clock()
        self._well = True
        self.last_error = None

    def _collect(self, frame: watch.Frame, items: dict[Key, T], undecodable: set[Key]) -> str | None:
        """Take an initial event; return the list's resourceVersion at the end mark."""
        self._count(frame.type)
        if frame.type == watch.BOOKMARK:
            metadata = self._metadata(frame.object)
            ended = metadata.annotations.get(watch.INITIAL_EVENTS_END) == "true"
            return metadata.resource_version if ended else None
        if frame.type == watch.DELETED:
            items.pop(self._metadata(frame.object).key, None)
        else:
            self._take(frame.object, items, undecodable)
        return None

    def _take(self, raw: Raw, items: dict[Key, T], undecodable: set[Key]) -> None:
        item = self._client.decode_item(raw, self._resource, self._decode)
        if item is None:
            undecodable.add(self._metadata(raw).key)
            return
        known = self._store.get(item.metadata.key)
        if known is not None and known.metadata.resource_version == item.metadata.resource_version:
            # Keep one copy while old and new list are both in memory.
            item = known if known.metadata.uid == item.metadata.uid else item
        items[item.metadata.key] = item

    async def _adopt(self, items: dict[Key, T], undecodable: set[Key], *, resource_version: str) -> None:
        """Make a complete list the content of the store and tell what differs."""
        force = self._check_age(resource_version)
        seen, cause, initial = self._seen, self._cause, not self.synced.is_set()
        changes = self._store.replace(
            items, resource_version=resource_version, undecodable=undecodable, initial=initial, force=force
        )
        self._resource_version = resource_version
        number = revision(resource_version)
        self._seen = number if number is not None else self._seen
        self._resync_at = self._clock() + self._timing.resync * between(0.9, 1.1)
        self._metrics.relists.labels(self._client.name, self._resource.plural, cause).inc()
        missed = [c for c in changes if c.new is not None and _not_after(c.new.metadata, seen)]
        if cause == "resync" and missed:
            self._metrics.repaired.labels(self._client.name, self._resource.plural).inc(len(missed))
            self._log.warning("lost_watch_events_repaired", count=len(missed))
        self._log.info("listed", cause=cause, objects=len(items), changes=len(changes))
        for position, change in enumerate(changes, start=1):
            self._notify(change)
            if position % _SLICE == 0:
                await asyncio.sleep(0)
        self.synced.set()

    def _check_age(self, resource_version: str) -> bool:
        """Refuse a list older than what we know; True when it has to be believed all the same."""
        number = revision(resource_version)
        if number is None or number >= self._seen:
            self._stale_lists = 0
            return False
        self._stale_lists += 1
        if self._stale_lists <= _STALE_LISTS:
            raise ProtocolError(
                f"list of {self._resource.plural} is older ({number}) than what is known ({self._seen})"
            )
        self._log.error("server_data_went_back", known=self._seen, listed=number)
        self._stale_lists = 0
        return True

    def _handle(self, frame: watch.Frame) -> None:
        """Take one event of a watch that continues a list."""
        self._count(frame.type)
        if frame.type in {watch.ADDED, watch.MODIFIED}:
            item = self._client.decode_item(frame.object, self._resource, self._decode)
            if item is None:
                self._advance(self._metadata(frame.object).resource_version)
                return
            change = self._store.upsert(item)
            metadata = item.metadata
        else:
            metadata = self._metadata(frame.object)
            change = self._store.remove(metadata) if frame.type == watch.DELETED else None
        self._advance(metadata.resource_version)
        if change is not None:
            self._notify(change)

    def _advance(self, resource_version: str) -> None:
        """Move the point to resume from, never back (replayed events, fault F8)."""
        number = revision(resource_version)
        if number is None:
            self._resource_version = resource_version or self._resource_version
        elif number > self._seen:
            self._seen = number
            self._resource_version = resource_version

    def _notify(self, change: Change[T]) -> None:
        try:
            self._on_change(change)
        except Exception:  # noqa: BLE001 - a bug for one object must not stop the others (F37)
            self._log.exception("on_change_failed", object="/".join(change.key))

    def _metadata(self, raw: Raw) -> Metadata:
        try:
            return decoding.decoder(WithMetadata).decode(raw).metadata
        except decoding.ERRORS:
            found = decoding.salvage(raw)
        if found is None:
            raise ProtocolError(f"{self._resource.plural}: an object without readable metadata")
        return found

    def _count(self, kind: str) -> None:
        if kind not in {watch.ADDED, watch.MODIFIED, watch.DELETED, watch.BOOKMARK}:
            raise ProtocolError(f"WATCH {self._scope.path}: unknown event type {kind[:40]!r}")
        self._metrics.watch_events.labels(self._client.name, self._resource.plural, kind).inc()


def _not_after(metadata: Metadata, seen: int) -> bool:
    number = revision(metadata.resource_version)
    return number is not None and number <= seen


def _invalid_position(error: ApiError) -> bool:
    """The server does not accept the resourceVersion: too large (its data went back) or not one of its own."""
    too_large = any(cause.get("reason") == "ResourceVersionTooLarge" for cause in error.causes)
    return too_large or error.status in {400, 422}
