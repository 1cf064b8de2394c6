"""Streams whose far end takes nothing for a while.

A reader may stop for as long as it likes: a pager, a container that does not read its input yet. Its kernel answers all
the time, so it is not dead. TCP_USER_TIMEOUT cuts it off all the same (Linux, tcp_probe_timer: also a connection whose
window stays closed ends by it), so it is off while a stream lasts, and what it is for is done here: whose kernel does
not answer any more is dropped.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import socket
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeGuard

LOOK_SECONDS: Final = 5.0
UNANSWERED: Final = 8
"""Repetitions in a row that nobody answered. The first comes after 0.2 s or little more, each later after twice the
time: about a minute. Who is silent with nothing to send to it is found by keep-alive probes."""
_POLL: Final = 0.005
_LONGEST_POLL: Final = 0.5
_RETRANSMITS, _PROBES = 2, 3
"""Where struct tcp_info (linux/tcp.h) has them, one byte each."""


@contextmanager
def borne(*transports: asyncio.Transport) -> Iterator[None]:
    """Bear with the far ends of these TCP transports; one that is dead is aborted."""
    sockets = [transport.get_extra_info("socket") for transport in transports]
    before = [_user_timeout(one) for one in sockets]
    for one in sockets:
        _set_user_timeout(one, 0)
    watch = _Watch(list(zip(transports, sockets, strict=True)))
    try:
        yield
    finally:
        watch.stop()
        # A connection may go on with another request.
        for one, milliseconds in zip(sockets, before, strict=True):
            _set_user_timeout(one, milliseconds)


async def taken(transports: Sequence[asyncio.Transport], *, gone: asyncio.Future[None] | None, timeout: float) -> None:
    """Wait until no transport holds data and the far end's kernel has acknowledged all, `gone` is done, or a while.

    The last of them is TCP. There is no event for this: it is polled, at the end of a stream only and seldom more than
    once; but a reader that has stopped may go on in hours.
    """
    loop = asyncio.get_running_loop()
    deadline, pause = loop.time() + timeout, _POLL
    while not (gone is not None and gone.done()) and loop.time() < deadline and not _sent(transports):
        if gone is None:
            await asyncio.sleep(pause)
        else:
            await asyncio.wait((gone,), timeout=pause)
        pause = min(2 * pause, _LONGEST_POLL)


def _sent(transports: Sequence[asyncio.Transport]) -> bool:
    if any(transport.get_write_buffer_size() for transport in transports):
        return False
    connection = transports[-1].get_extra_info("socket")
    if not _is_open(connection):
        return True
    queued = array.array("i", [0])
    fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, queued)
    return queued[0] == 0


def unanswered(information: bytes) -> int:
    """How often data or a probe of a closed window was repeated without an answer, by a struct tcp_info."""
    return max(information[_RETRANSMITS], information[_PROBES])


class _Watch:
    def __init__(self, watched: Sequence[tuple[asyncio.Transport, socket.socket | None]]) -> None:
        self._watched = watched
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        for transport, one in self._watched:
            with contextlib.suppress(OSError):
                if _is_open(one) and unanswered(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)) >= UNANSWERED:
                    transport.abort()
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)


def _is_open(one: socket.socket | None) -> TypeGuard[socket.socket]:
    return one is not None and one.fileno() >= 0


def _user_timeout(one: socket.socket | None) -> int:
    with contextlib.suppress(OSError):
        if _is_open(one):
            return one.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    return 0


def _set_user_timeout(one: socket.socket | None, milliseconds: int) -> None:
    with contextlib.suppress(OSError):  # it is no TCP, or closed by now
        if _is_open(one):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
