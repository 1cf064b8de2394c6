"""The proxy itself: one identity, one API server, rules that may change at any time, and a record of every request.

It terminates TLS with a certificate of the cluster's authority, takes only clients that show a certificate of that
authority, and speaks to the API server as the one user it was made for. Runs in the event loop of the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.lab import pki
from deploy.lab.cluster import LabCluster
from deploy.lab.plan import API_PORT
from deploy.lab.proxy import http1
from deploy.lab.proxy.http1 import Head
from deploy.lab.proxy.rules import (
    Action,
    AlterBody,
    AlterEvents,
    Answer,
    BreakBody,
    Delay,
    Event,
    Refuse,
    Request,
    Rule,
)

_PER_HOP = ("Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Content-Length", "Accept-Encoding")
_NO_BODY = (204, 304)


class _Abort(Exception):  # noqa: N818 - the wanted end of a connection, not an error
    """Close the client's connection now, without another byte."""


@dataclass(slots=True)
class Record:
    """A request that came, and what became of it."""

    request: Request
    at: float
    """time.time() of its arrival."""
    body: bytes
    headers: http1.Headers
    status: int = 0
    """Of the answer passed on; 0 while there is none, or if there never was."""
    spoiled: bool = False
    """Whether a rule's action was taken on it."""

    @property
    def line(self) -> str:
        """Method and path, for messages and simple assertions."""
        return f"{self.request.method} {self.request.path}"


@dataclass(slots=True, eq=False)
class _Stream:
    """A watch that is open through the proxy."""

    request: Request
    writer: asyncio.StreamWriter

    def send(self, event: Event) -> None:
        self.writer.write(http1.chunk(json.dumps(event).encode() + b"\n"))


class ApiProxy:
    """Make it with `running`."""

    def __init__(self, *, kubeconfig: Path, upstream: tuple[str, ssl.SSLContext]) -> None:
        self.kubeconfig = kubeconfig
        """Credentials and address for the client under test."""
        self.url = ""
        self.records: list[Record] = []
        """Every request, in the order of arrival."""
        self.rules: list[Rule] = []
        """In order; of those that match a request the first action counts, besides any delays."""
        self._upstream = upstream
        self._streams: list[_Stream] = []
        self._connections: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def running(cls, cluster: LabCluster, *, user: str, groups: tuple[str, ...] = ()) -> AsyncIterator[ApiProxy]:
        """Stand in front of a cluster's API server for the time of the block, at the lab's gateway."""
        host = f"{cluster.plan.site.ip.rpartition('.')[0]}.1"
        with tempfile.TemporaryDirectory(prefix="isthmus-proxy-") as name:
            folder = Path(name)
            serving, calling = _contexts(cluster, host, user=user, groups=groups, folder=folder)
            proxy = cls(kubeconfig=folder / "kubeconfig", upstream=(cluster.plan.site.ip, calling))
            server = await asyncio.start_server(proxy._serve, host, 0, ssl=serving, limit=http1.HEAD_LIMIT)
            proxy.url = f"https://{host}:{server.sockets[0].getsockname()[1]}"
            cluster.client_kubeconfig(user, groups=groups, path=proxy.kubeconfig, server=proxy.url)
            try:
                yield proxy
            finally:
                server.close()
                await proxy.disconnect()
                await server.wait_closed()

    def add(self, action: Action, *, times: int | None = None, **matching: Any) -> Rule:
        """Add a rule (see Rule for what it takes) behind those there are; returns it for `remove` and its `hits`."""
        rule = Rule(action, times=times, **matching)
        self.rules.append(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """Take a rule away; fine if it is away."""
        with contextlib.suppress(ValueError):
            self.rules.remove(rule)

    def clear(self) -> None:
        """Behave from now on."""
        self.rules.clear()

    def inject(self, event: Event, *, path: str = "") -> int:
        """Send an event into every open watch whose path contains `path`; how many that were."""
        chosen = [stream for stream in self._streams if path in stream.request.path]
        for stream in chosen:
            stream.send(event)
        return len(chosen)

    def watches(self, *, path: str = "") -> int:
        """How many watches are open on paths that contain `path`."""
        return sum(path in stream.request.path for stream in self._streams)

    def break_watches(self, *, path: str = "") -> int:
        """Cut the connections of open watches; how many that were."""
        chosen = [stream for stream in self._streams if path in stream.request.path]
        for stream in chosen:
            stream.writer.transport.abort()
        return len(chosen)

    async def disconnect(self) -> None:
        """Close every connection."""
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except* (_Abort, http1.Closed, OSError, ValueError, asyncio.CancelledError, asyncio.LimitOverrunError):
            pass
        finally:
            self._connections.discard(task)
            # Abort, not close: whoever is to see a broken connection must not see an orderly end.
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; False when the connection is not to be used further."""
        head = await http1.read_head(reader)
        path, _, query = head.first[1].partition("?")
        request = Request(head.first[0], path, query)
        pieces = [] if head.upgrade else [piece async for piece in http1.body(reader, head, until_close=False)]
        record = Record(request, time.time(), b"".join(pieces), head.headers)
        self.records.append(record)
        action = await self._choose(record)
        match action:
            case Refuse():
                raise _Abort
            case Answer():
                record.status = action.status
                await _send(writer, str(action.status), list(action.headers), action.body)
                return not head.upgrade
        host, context = self._upstream
        far_reader, far_writer = await asyncio.open_connection(host, API_PORT, ssl=context, limit=http1.HEAD_LIMIT)
        try:
            far_writer.write(_forwarded(head, record.body))
            if head.upgrade:
                await _tunnel((reader, writer), (far_reader, far_writer))
                return False
            await self._answer(record, action, far_reader, writer)
            return True
        finally:
            far_writer.transport.abort()

    async def _choose(self, record: Record) -> Action | None:
        """The action for a request, after the delays that are due to it."""
        chosen: Action | None = None
        for rule in list(self.rules):
            if isinstance(rule.action, AlterEvents) or (chosen and not isinstance(rule.action, Delay)):
                continue
            if rule.take(record.request):
                record.spoiled = True
                if isinstance(rule.action, Delay):
                    await asyncio.sleep(rule.action.seconds)
                else:
                    chosen = rule.action
        return chosen

    async def _answer(
        self, record: Record, action: Action | None, far: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Pass the API server's answer on, spoiled as the action says."""
        head = await http1.read_head(far)
        content = http1.body(far, head, until_close=True)
        if record.request.method == "HEAD" or head.status in _NO_BODY:
            content = _nothing()
        if action is None:
            record.status = head.status
            await self._pass_on(record.request, head, content, writer)
            return
        whole = b"".join([piece async for piece in content]) if not record.request.watch else b""
        match action:
            case AlterBody():
                record.status = head.status
                await _send(writer, head.first[1], head.without(*_PER_HOP), action.alter(whole))
            case BreakBody():
                headers = [*head.without(*_PER_HOP), ("Content-Length", str(len(whole)))]
                share = whole[: int(len(whole) * action.share)]
                writer.write(http1.encode_head(("HTTP/1.1", *head.first[1:]), headers) + share)
                await writer.drain()
                raise _Abort
            case _:
                raise _Abort

    async def _pass_on(
        self, request: Request, head: Head, content: AsyncIterator[bytes], writer: asyncio.StreamWriter
    ) -> None:
        plain = request.method == "HEAD" or head.status in _NO_BODY
        framing = [] if plain else [("Transfer-Encoding", "chunked")]
        writer.write(http1.encode_head(("HTTP/1.1", *head.first[1:]), [*head.without(*_PER_HOP), *framing]))
        if request.watch and head.status == 200:
            await self._pass_events(request, content, writer)
        else:
            async for piece in content:
                writer.write(http1.chunk(piece))
                await writer.drain()
        if not plain:
            writer.write(http1.chunk(b""))
        await writer.drain()

    async def _pass_events(self, request: Request, content: AsyncIterator[bytes], writer: asyncio.StreamWriter) -> None:
        stream = _Stream(request, writer)
        self._streams.append(stream)
        try:
            # The client must see the answer's head at once, not with the first event.
            await writer.drain()
            pending = b""
            async for piece in content:
                *lines, pending = (pending + piece).split(b"\n")
                for line in lines:
                    for event in self._altered(request, json.loads(line)):
                        stream.send(event)
                await writer.drain()
        finally:
            self._streams.remove(stream)

    def _altered(self, request: Request, event: Event) -> list[Event]:
        events = [event]
        for rule in list(self.rules):
            if isinstance(rule.action, AlterEvents) and rule.take(request):
                events = [out for each in events for out in rule.action.alter(each)]
        return events


def _contexts(
    cluster: LabCluster, host: str, *, user: str, groups: tuple[str, ...], folder: Path
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS towards the client and towards the API server."""
    ca = cluster.ca
    authority = str(ca.files.certificate)
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority)
    serving.verify_mode = ssl.CERT_REQUIRED
    calling = ssl.create_default_context(cafile=authority)
    pairs = {serving: ca.server("proxy", hosts=[host]), calling: ca.client(user, groups=groups)}
    for context, pair in pairs.items():
        both = folder / "pair.pem"
        pki.write_private(both, pair.certificate + pair.key)
        context.load_cert_chain(both)
        both.unlink()
    return serving, calling


def _forwarded(head: Head, body: bytes) -> bytes:
    """The request as the API server gets it: uncompressed JSON wanted, one request a connection."""
    if head.upgrade:
        return http1.encode_head(head.first, head.headers)
    headers = [(key, _json_only(value) if key.lower() == "accept" else value) for key, value in head.without(*_PER_HOP)]
    headers += [("Connection", "close"), ("Content-Length", str(len(body)))]
    return http1.encode_head(head.first, headers) + body


def _json_only(accept: str) -> str:
    kept = [kind for kind in accept.split(",") if "protobuf" not in kind]
    return ",".join(kept) or "application/json"


async def _send(writer: asyncio.StreamWriter, code: str, headers: http1.Headers, body: bytes) -> None:
    writer.write(http1.encode_head(("HTTP/1.1", code, "-"), [*headers, ("Content-Length", str(len(body)))]) + body)
    await writer.drain()


async def _nothing() -> AsyncIterator[bytes]:
    for _ in range(0):
        yield b""


async def _tunnel(
    near: tuple[asyncio.StreamReader, asyncio.StreamWriter], far: tuple[asyncio.StreamReader, asyncio.StreamWriter]
) -> None:
    """Bytes both ways until either side ends."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        raise _Abort

    async with asyncio.TaskGroup() as group:
        group.create_task(pump(near[0], far[1]))
        group.create_task(pump(far[0], near[1]))
