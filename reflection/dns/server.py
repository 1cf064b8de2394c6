"""The server: takes questions by UDP and TCP, asks the provider's DNS, answers. It keeps nothing.

Bounds: so many questions and connections at a time, so long for each; what is beyond is dropped, as DNS clients expect
of a busy server, and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import prometheus_client
import structlog

from reflection.dns import messages
from reflection.dns.names import NameTable

log = structlog.get_logger(__name__)

AT_A_TIME: Final = 512
"""Questions that are answered at the same time; each costs a socket."""
CONNECTIONS: Final = 128
IDLE_SECONDS: Final = 10.0
_LENGTH: Final = struct.Struct("!H")


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where to ask. Each server is asked once, in this order, until one answers."""

    servers: Sequence[str]
    port: int = 53
    timeout: float = 2.0
    """Seconds that one has to answer."""


class DnsServer:
    """`run` it; `ready` returns once it listens."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        table: Callable[[], NameTable],
        upstream: Upstream,
        registry: prometheus_client.CollectorRegistry | None = None,
    ) -> None:
        """`table` is asked for each question, for namespaces come and go."""
        self._host = host
        self._port = port
        self._table = table
        self._upstream = upstream
        self._listening = asyncio.Event()
        self._questions = asyncio.Semaphore(AT_A_TIME)
        self._connections = 0
        self._outcomes = prometheus_client.Counter(
            "isthmus_dns_questions", "Questions of pods by outcome.", ["outcome"], registry=registry
        )

    async def ready(self) -> None:
        """Wait until questions are taken."""
        await self._listening.wait()

    async def run(self) -> None:
        """Serve for ever. Raises OSError if the port is taken."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            transport, _ = await loop.create_datagram_endpoint(
                lambda: _Datagrams(self, group), local_addr=(self._host, self._port)
            )
            server = await asyncio.start_server(self._connected, self._host, self._port)
            try:
                self._listening.set()
                await asyncio.Event().wait()
            finally:
                transport.close()
                server.close()

    def take(self, group: asyncio.TaskGroup, transport: asyncio.DatagramTransport, wire: bytes, address: Any) -> None:
        """A datagram came."""
        if self._questions.locked():
            self._outcomes.labels("dropped").inc()
            return
        group.create_task(self._by_datagram(transport, wire, address), name="dns question")

    async def _by_datagram(self, transport: asyncio.DatagramTransport, wire: bytes, address: Any) -> None:
        answer = await self._answered(wire, datagram=True)
        if answer is not None and not transport.is_closing():
            transport.sendto(answer, address)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= CONNECTIONS:
            self._outcomes.labels("dropped").inc()
            writer.close()
            return
        self._connections += 1
        try:
            with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
                await self._converse(reader, writer)
        finally:
            self._connections -= 1
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """RFC 7766: any number of questions, each with its length before it."""
        while True:
            async with asyncio.timeout(IDLE_SECONDS):
                (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                wire = await reader.readexactly(length)
            answer = await self._answered(wire, datagram=False)
            if answer is None:
                return
            async with asyncio.timeout(IDLE_SECONDS):
                writer.write(_LENGTH.pack(len(answer)) + answer)
                await writer.drain()

    async def _answered(self, wire: bytes, *, datagram: bool) -> bytes | None:
        """The answer on the wire; None for what is no question."""
        try:
            query = dns.message.from_wire(wire)
            if query.flags & dns.flags.QR:
                self._outcomes.labels("malformed").inc()
                return None
            async with self._questions:
                answer, outcome = await self._answer(query, datagram=datagram)
            encoded = messages.encoded(query, answer, datagram=datagram)
        except Exception as error:  # noqa: BLE001 - whatever strangers send, the server goes on
            log.debug("question not answered", error=type(error).__name__)
            self._outcomes.labels("malformed").inc()
            return None
        self._outcomes.labels(outcome).inc()
        return encoded

    async def _answer(self, query: dns.message.Message, *, datagram: bool) -> tuple[dns.message.Message, str]:
        refused = messages.refusal(query)
        if refused is not None:
            return messages.failure(query, refused), "refused"
        table = self._table()
        asked = messages.question_there(query, table)
        if asked is None:
            return messages.no_such_name(query, table), "elsewhere"
        found = await self._ask(asked, datagram=datagram)
        if found is None:
            return messages.failure(query, dns.rcode.SERVFAIL), "failed"
        return messages.answer_here(query, found, table), "answered"

    async def _ask(self, asked: dns.message.Message, *, datagram: bool) -> dns.message.Message | None:
        ask: Any = dns.asyncquery.udp if datagram else dns.asyncquery.tcp
        more = {"ignore_unexpected": True, "ignore_errors": True, "raise_on_truncation": False} if datagram else {}
        for server in self._upstream.servers:
            try:
                found: dns.message.Message = await ask(
                    asked, server, timeout=self._upstream.timeout, port=self._upstream.port, **more
                )
            except (dns.exception.DNSException, OSError, EOFError) as error:
                log.debug("provider's DNS did not answer", server=server, error=type(error).__name__)
                continue
            return found
        return None


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer, group: asyncio.TaskGroup) -> None:
        self._server = server
        self._group = group
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self._transport is not None:
            self._server.take(self._group, self._transport, data, addr)
