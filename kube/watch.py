"""One watch: one request, its lines turned into events, until it ends or breaks.

Lines are split here and not by aiohttp, whose line reader has an upper limit: an event may carry
3 MB. Each is decoded in two steps, the envelope first, so that type and errors are known
before an object is looked at. Never ends silently: a dead link, an ERROR event, half a line all raise.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec
from msgspec import Raw

from kube import decoding, errors
from kube.backoff import between
from kube.client import Client, selectors
from kube.errors import ProtocolError, TransportError
from kube.resources import Resource

T = TypeVar("T")

ADDED = "ADDED"
MODIFIED = "MODIFIED"
DELETED = "DELETED"
BOOKMARK = "BOOKMARK"
ERROR = "ERROR"
INITIAL_EVENTS_END = "k8s.io/initial-events-end"

# API servers send a bookmark about once a minute (apiserver cacher, defaultBookmarkFrequency): longer silence is death.
INACTIVITY = 90.0
_LONGEST_LINE = 16 * 1024 * 1024
_ERROR_BODY = 64 * 1024
# client-go's reflector asks for 5 to 10 minutes; random, so that many watches do not end together.
_SHORTEST, _LONGEST = 290, 580


class Frame(msgspec.Struct, frozen=True):
    """A watch event whose object is not decoded; ``object`` refers to the line it came in."""

    type: str
    object: Raw


@dataclass(frozen=True, slots=True)
class WatchEvent(Generic[T]):
    """A watch event. Of a BOOKMARK's object only ``metadata.resourceVersion`` and annotations are set."""

    type: str
    object: T


@dataclass(frozen=True, slots=True)
class Scope:
    """What is watched: the objects of a resource, of all namespaces or one, that match the selectors."""

    resource: Resource
    namespace: str | None = None
    label_selector: str = ""
    field_selector: str = ""

    @property
    def path(self) -> str:
        """The path of the collection."""
        return self.resource.path(namespace=self.namespace)

    @property
    def params(self) -> list[tuple[str, str]]:
        """The selectors as query parameters."""
        return selectors(self.label_selector, self.field_selector)

    def __str__(self) -> str:
        return ",".join(part for part in (self.namespace or "*", self.label_selector, self.field_selector) if part)


class LineSplitter:
    """Cuts a stream of chunks into lines without their ends. Costs are linear in what is fed."""

    def __init__(self, *, limit: int = _LONGEST_LINE) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def pending(self) -> int:
        """Bytes of a line that has no end yet."""
        return self._size

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that are complete now. Raises ProtocolError for a line over the limit."""
        lines = chunk.split(b"\n")
        tail = lines.pop()
        if lines and self._parts:
            lines[0] = b"".join([*self._parts, lines[0]])
        if lines:
            self._parts.clear()
            self._size = 0
        if tail:
            self._parts.append(tail)
            self._size += len(tail)
        if self._size > self._limit:
            raise ProtocolError(f"watch event larger than {self._limit} bytes")
        return [line for line in lines if line.strip()]


async def watch(
    client: Client,
    resource: Resource,
    *,
    decode: type[T],
    resource_version: str,
    namespace: str | None = None,
    label_selector: str = "",
    field_selector: str = "",
    inactivity: float = INACTIVITY,
) -> AsyncGenerator[WatchEvent[T]]:
    """Events after ``resource_version``, for one request's time. Use with ``contextlib.aclosing``.

    Ends when the server ends it (after minutes). Raises ApiError (``gone``: list again),
    TransportError, ProtocolError. Objects that cannot be decoded are logged and left out; for a
    view that stays correct all the same use a :class:`kube.reflector.Reflector`.
    """
    scope = Scope(resource, namespace, label_selector, field_selector)
    async with aclosing(frames(client, scope, resource_version=resource_version, inactivity=inactivity)) as batches:
        async for batch in batches:
            for frame in batch:
                item = client.decode_item(frame.object, resource, decode)
                if item is not None:
                    yield WatchEvent(frame.type, item)


async def frames(
    client: Client,
    scope: Scope,
    *,
    resource_version: str,
    initial_events: bool = False,
    inactivity: float = INACTIVITY,
    duration: float | None = None,
) -> AsyncGenerator[Sequence[Frame]]:
    """Undecoded events in the batches they arrive in; may be empty (the server is alive).

    With ``initial_events`` the server sends all objects first and then a bookmark with the annotation
    ``k8s.io/initial-events-end`` (KEP-3157). ``duration`` shortens what the server is asked for; a watch that
    gets no bookmarks may be silent for all of it.
    Yields an empty batch first, once the server has accepted.
    """
    what = f"WATCH {scope.path}"
    seconds = _duration(duration)
    if not scope.resource.bookmarks:
        inactivity += seconds
    params = [*scope.params, *_watch_params(resource_version, initial_events=initial_events, seconds=seconds)]
    splitter = LineSplitter()
    async with client.open_watch(scope.resource, scope.path, params=params) as response:
        if response.status != 200:
            body = await response.read(_ERROR_BODY)
            if response.status < 400:
                raise ProtocolError(f"{what}: unexpected status {response.status}")
            raise errors.from_response(response.status, headers=response.headers, body=body, request=what)
        yield ()
        async with aclosing(_alive(response.iter_any(), inactivity=inactivity, what=what)) as chunks:
            async for chunk in chunks:
                found = [_frame(line, what=what) for line in splitter.feed(chunk)]
                failed = next((i for i, frame in enumerate(found) if frame.type == ERROR), None)
                yield found[:failed]
                if failed is not None:
                    raise errors.from_status(found[failed].object, request=what)
    if splitter.pending:
        raise ProtocolError(f"{what}: ended in the middle of an event")


def _duration(wanted: float | None) -> int:
    seconds = int(between(_SHORTEST, _LONGEST))
    return seconds if wanted is None else max(1, min(seconds, int(wanted)))


def _watch_params(resource_version: str, *, initial_events: bool, seconds: int) -> list[tuple[str, str]]:
    params = [("watch", "1"), ("allowWatchBookmarks", "true"), ("timeoutSeconds", str(seconds))]
    if initial_events:
        # Without a resourceVersion this is a consistent read, "most recent".
        params += [("sendInitialEvents", "true"), ("resourceVersionMatch", "NotOlderThan")]
    if resource_version:
        params.append(("resourceVersion", resource_version))
    return params


async def _alive(chunks: AsyncIterator[bytes], *, inactivity: float, what: str) -> AsyncGenerator[bytes]:
    """Pass chunks on; raise when none comes for ``inactivity`` seconds."""
    while True:
        try:
            # Around the wait only: the consumer's own time does not count.
            async with asyncio.timeout(inactivity):
                chunk = await anext(chunks, None)
        except TimeoutError:
            raise TransportError(f"{what}: nothing heard for {inactivity:g} s", sent=True) from None
        if chunk is None:
            return
        yield chunk


def _frame(line: bytes, *, what: str) -> Frame:
    try:
        return _frame_decoder.decode(line)
    except decoding.ERRORS:
        pass
    # One bad object must not end the watch (fault F37): read the envelope leniently and let the object fail alone.
    try:
        document = json.loads(line.decode("utf-8", "replace"))
        return Frame(type=str(document["type"]), object=Raw(json.dumps(document["object"]).encode()))
    except (ValueError, RecursionError, LookupError, TypeError):
        raise ProtocolError(f"{what}: a line of {len(line)} bytes is not a watch event") from None


_frame_decoder = msgspec.json.Decoder(Frame)
