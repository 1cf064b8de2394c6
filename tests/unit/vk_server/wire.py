"""The wire side of the tests: a scripted provider, and reading of HTTP messages."""

from __future__ import annotations

import array
import asyncio
import contextlib
import dataclasses
import fcntl
import ssl
import termios
import urllib.parse
from collections.abc import Awaitable, Callable

Pairs = list[tuple[str, str]]


@dataclasses.dataclass
class Head:
    """First line and headers of a message."""

    first: str
    headers: Pairs

    @property
    def status(self) -> int:
        return int(self.first.split()[1])

    @property
    def path(self) -> str:
        return self.first.split()[1].partition("?")[0]

    @property
    def query(self) -> Pairs:
        return urllib.parse.parse_qsl(self.first.split()[1].partition("?")[2], keep_blank_values=True)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def one(self, name: str) -> str:
        return (self.all(name) or [""])[0]


async def read_head(reader: asyncio.StreamReader) -> Head:
    raw = await reader.readuntil(b"\r\n\r\n")
    first, *lines = raw.decode("latin-1").strip().split("\r\n")
    return Head(first, [(k, v.strip()) for k, _, v in (line.partition(":") for line in lines)])


async def read_body(reader: asyncio.StreamReader, head: Head) -> bytes:
    if head.one("Transfer-Encoding").lower() == "chunked":
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
        return body
    if length := head.one("Content-Length"):
        return await reader.readexactly(int(length))
    return await reader.read()


async def paced(writer: asyncio.StreamWriter) -> None:
    """Drain and yield: on a connection that has just been reset drain returns at once and says nothing."""
    await writer.drain()
    await asyncio.sleep(0)


async def delivered(writer: asyncio.StreamWriter) -> None:
    """Wait until the peer's kernel has all that was written (a close with unread data would drop the rest)."""
    await writer.drain()
    queued = array.array("i", [1])
    while writer.transport.get_write_buffer_size() or queued[0]:
        await asyncio.sleep(0.005)
        fcntl.ioctl(writer.get_extra_info("socket").fileno(), termios.TIOCOUTQ, queued)


Script = Callable[[Head, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Switch protocols and send everything back."""
    writer.write(switching(head))
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


def switching(head: Head, *, more: str = "") -> bytes:
    protocol = head.one("Upgrade")
    version = "X-Stream-Protocol-Version: v4.channel.k8s.io\r\n" if protocol.upper().startswith("SPDY") else ""
    return (
        f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n{version}{more}\r\n"
    ).encode()


class Provider:
    """An HTTP server that records each request's head and lets a script answer it."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self.heads: list[Head] = []
        self.script: Script = echo
        self.open = 0
        self.idle = asyncio.Event()
        self.port = 0
        self.tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls, limit=2**18)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.open += 1
        self.idle.clear()
        try:
            head = await read_head(reader)
            self.heads.append(head)
            await self.script(head, reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self.open -= 1
            if not self.open:
                self.idle.set()
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
