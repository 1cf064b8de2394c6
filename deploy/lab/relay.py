"""A TCP relay that delays or freezes what passes: the kernel here has no netem to do that to a link."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_CHUNK = 65536
# Bytes under way are bounded by this many chunks a direction; a full pipe pushes back on the sender.
_IN_FLIGHT = 64


class Relay:
    """Relays connections to one address; make it with `running`."""

    def __init__(self, target: tuple[str, int], *, delay: float) -> None:
        self.delay = delay
        """Seconds that every byte is held back, each way; may be changed while connections are open."""
        self.address = ("", 0)
        """Where it listens."""
        self.connections = 0
        """Connections accepted so far."""
        self._target = target
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._open: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def running(cls, target: tuple[str, int], *, host: str, delay: float = 0.0) -> AsyncIterator[Relay]:
        """Listen on a free port of `host` and relay to `target` for the time of the block."""
        relay = cls(target, delay=delay)
        server = await asyncio.start_server(relay._serve, host, 0)
        relay.address = server.sockets[0].getsockname()[:2]
        try:
            yield relay
        finally:
            server.close()
            await relay.drop()
            await server.wait_closed()

    @property
    def url(self) -> str:
        """The relayed API server's URL."""
        return f"https://{self.address[0]}:{self.address[1]}"

    def freeze(self) -> None:
        """Pass nothing on, in either direction, with connections open: a link gone dead without a word."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Undo `freeze`."""
        self._flowing.set()

    async def drop(self) -> None:
        """Close all connections."""
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.connections += 1
        try:
            await self._splice(reader, writer)
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            await _close(writer)

    async def _splice(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer))
                group.create_task(self._pump(far_reader, writer))
        finally:
            await _close(far_writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes one way, each chunk `delay` seconds after it came, so that throughput does not suffer."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_IN_FLIGHT)
        loop = asyncio.get_running_loop()

        async def receive() -> None:
            data = b"-"
            while data:
                data = await reader.read(_CHUNK)
                await under_way.put((loop.time(), data))

        async with asyncio.TaskGroup() as group:
            group.create_task(receive())
            while True:
                came, data = await under_way.get()
                await asyncio.sleep(max(0.0, came + self.delay - loop.time()))
                await self._flowing.wait()
                if not data:
                    break
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, asyncio.CancelledError):
        await writer.wait_closed()
