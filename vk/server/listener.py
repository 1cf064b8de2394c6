"""Accepts connections and sees them through the TLS handshake.

The accept loop is our own because the bounds of `admission` must hold from the first packet: a server made by asyncio
tells nobody of a connection before its handshake is complete. TLS is started on a TCP transport that the connection
keeps hold of, for only that transport knows whether the last bytes of a stream have gone out.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from collections.abc import Callable
from typing import cast

import structlog

from vk.server.admission import Phase, Ticket
from vk.server.connection import Connection, Surroundings

log = structlog.get_logger(__name__)

_ACCEPT_PAUSE = 0.1
_DEFER_SECONDS = 1
_SHUTDOWN_TIMEOUT = 30.0
"""Seconds a closing connection has to take what is still buffered for it."""
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 60_000}
"""A caller whose machine is gone is noticed within a minute, also in a silent stream; see `stalls` for others."""


def bind(host: str, port: int) -> socket.socket:
    """A listening, non-blocking TCP socket; port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        # In TLS the client speaks first: the kernel keeps those that don't for itself.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFER_SECONDS)
        listening.listen(1024)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


class _Silent(asyncio.Protocol):
    """Keeps a TCP transport from reading before TLS is started on it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pause at once: what the client sends is for TLS to read."""
        cast(asyncio.Transport, transport).pause_reading()


class Listener:
    """The accept loop of one listening socket."""

    def __init__(
        self,
        listening: socket.socket,
        *,
        surroundings: Surroundings,
        context: Callable[[], ssl.SSLContext],
        handshake_timeout: float,
    ) -> None:
        self._listening = listening
        self._surroundings = surroundings
        self._context = context
        self._handshake_timeout = handshake_timeout

    async def run(self) -> None:
        """Accept until cancelled; handshakes under way are cancelled with it."""
        loop = asyncio.get_running_loop()
        admission = self._surroundings.admission
        async with asyncio.TaskGroup() as handshakes:
            while True:
                try:
                    accepted, address = await loop.sock_accept(self._listening)
                except OSError as error:
                    # Out of file descriptors, or a connection that was reset before it was accepted.
                    log.warning("accept failed", error=str(error))
                    await asyncio.sleep(_ACCEPT_PAUSE)
                    continue
                ticket = admission.admit(address[0], drop=accepted.close)
                task = handshakes.create_task(self._welcome(accepted, ticket), name="kubelet-handshake")
                # A task that is cancelled before it has begun runs none of its code.
                task.add_done_callback(functools.partial(_close_if_cancelled, accepted))
                ticket.drop = _canceller(task)
                # An accept that need not wait does not give way by itself, and a flood's never has to wait.
                await asyncio.sleep(0)

    async def _welcome(self, accepted: socket.socket, ticket: Ticket) -> None:
        loop = asyncio.get_running_loop()
        welcomed = False
        try:
            _set_keepalive(accepted)
            async with asyncio.timeout(self._handshake_timeout):
                await _readable(accepted)
            ticket.phase = Phase.WORKING
            tcp, _ = await loop.connect_accepted_socket(_Silent, accepted)
            connection = Connection(self._surroundings, ticket=ticket, tcp=tcp)
            tls = await loop.start_tls(
                tcp,
                connection,
                self._context(),
                server_side=True,
                ssl_handshake_timeout=self._handshake_timeout,
                ssl_shutdown_timeout=_SHUTDOWN_TIMEOUT,
            )
            if tls is not None:
                connection.connection_made(tls)
                welcomed = True
        except (OSError, TimeoutError) as error:
            log.debug("handshake failed", source=ticket.source, error=type(error).__name__)
        finally:
            if not welcomed:
                self._surroundings.admission.settle(ticket)
                accepted.close()


async def _readable(connection: socket.socket) -> None:
    """Wait until the client has sent something: TLS costs memory, which silence should not get."""
    with contextlib.suppress(BlockingIOError):
        connection.recv(1, socket.MSG_PEEK)
        return
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection)


def _canceller(task: asyncio.Task[None]) -> Callable[[], None]:
    def cancel() -> None:
        task.cancel()

    return cancel


def _close_if_cancelled(accepted: socket.socket, task: asyncio.Task[None]) -> None:
    if task.cancelled():
        accepted.close()


def _set_keepalive(accepted: socket.socket) -> None:
    accepted.setblocking(False)
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        with contextlib.suppress(AttributeError, OSError):
            accepted.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
