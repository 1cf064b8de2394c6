"""One accepted connection: who is at the other end, and how long it may take over a request head.

Stands between the transport and aiohttp's protocol. aiohttp puts no limit on the time a client takes to send a
request's head; here it has a deadline. The request handler finds its connection by `of(request)`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from collections.abc import Callable
from typing import cast

from aiohttp import web

from vk.server.admission import Admission, Phase, Ticket
from vk.server.authentication import Certificate, read_certificate

HTTPProtocol = web.RequestHandler
"""aiohttp's protocol for one connection."""


@dataclasses.dataclass(frozen=True, slots=True)
class Surroundings:
    """What all connections of a server share."""

    make_http: Callable[[bool], HTTPProtocol]
    """Makes aiohttp's protocol; True for a caller with a certificate, who may send long heads."""
    admission: Admission
    head_timeout: float
    """Seconds a client has for each request head."""


class Connection(asyncio.Protocol):
    """Hands everything on to aiohttp; see the module's text."""

    def __init__(self, surroundings: Surroundings, *, ticket: Ticket, tcp: asyncio.Transport) -> None:
        self._surroundings = surroundings
        self._ticket = ticket
        self._deadline: asyncio.TimerHandle | None = None
        self._busy = False
        self._ended = False
        self._gone = False
        self._early = b""
        self._http: HTTPProtocol | None = None
        self._transport: asyncio.Transport | None = None
        self.tcp = tcp
        """The transport below TLS."""
        self.certificate: Certificate | None = None
        """The caller's certificate, verified against the client CA in the handshake; None without one."""

    @property
    def source(self) -> str:
        """The peer's address without port."""
        return self._ticket.source

    def request_started(self) -> None:
        """A request head is complete: no deadline until the next."""
        self._busy = True
        self._ticket.phase = Phase.WORKING
        self._disarm()

    def taken_over(self) -> None:
        """A stream gets the transport and keeps it to its end."""
        self._gone = True

    def request_ended(self) -> None:
        """The answer has been written, or the stream that took the connection over has ended."""
        self._busy = False
        self._ticket.phase = Phase.IDLE
        if self._gone:
            self.connection_lost(None)

    def authenticated(self) -> None:
        """The caller is known: its connection no longer counts as a stranger's."""
        self._surroundings.admission.settle(self._ticket)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TLS handshake is done. Data and even the end of the connection may have come first."""
        if self._ended:
            return
        self._transport = cast(asyncio.Transport, transport)
        self._ticket.drop = self._transport.abort
        tls = transport.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True) if isinstance(tls, ssl.SSLObject) else None
        self.certificate = read_certificate(der) if der else None
        self._ticket.phase = Phase.IDLE
        if self.certificate is not None:
            self.authenticated()
        self._http = self._surroundings.make_http(self.certificate is not None)
        self._http.connection_made(transport)
        self._arm()
        if self._early:
            early, self._early = self._early, b""
            self._http.data_received(early)

    def data_received(self, data: bytes) -> None:
        """Part of a request."""
        if self._http is None:
            self._early += b"" if self._ended else data
            return
        if not self._busy and self._deadline is None:
            self._arm()
        self._http.data_received(data)

    def eof_received(self) -> None:
        """The client is done sending; TLS has no half-close, the transport closes now."""
        if self._http is not None:
            self._http.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end; also called by a splice that had taken the transport over."""
        self._ended = True
        self._disarm()
        self._surroundings.admission.settle(self._ticket)
        if self._http is not None:
            self._http.connection_lost(exc)
            self._http = None

    def pause_writing(self) -> None:
        """The client reads slowly."""
        if self._http is not None:
            self._http.pause_writing()

    def resume_writing(self) -> None:
        """The client has caught up."""
        if self._http is not None:
            self._http.resume_writing()

    def _arm(self) -> None:
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._surroundings.head_timeout, self._expire)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        if not self._busy and self._transport is not None:
            self._transport.abort()


def of(request: web.BaseRequest) -> Connection | None:
    """The connection a request came in by; None if it is gone."""
    protocol = request.transport.get_protocol() if request.transport is not None else None
    return protocol if isinstance(protocol, Connection) else None
