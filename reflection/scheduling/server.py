"""HTTPS for API servers that ask about pods: bounded in every direction, and never a denial.

Whoever reaches the port may ask; all there is to learn is how a namespace's pods are scheduled. Where API servers
identify themselves (`--admission-control-config-file` with a client certificate), `client_ca` shuts out all others.
What cannot be answered gets an HTTP error, which the webhook's `failurePolicy: Ignore` turns into "as it is".
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import prometheus_client
import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from reflection.scheduling import review
from reflection.scheduling.registration import PATH, TIMEOUT_SECONDS
from reflection.scheduling.review import MalformedError, Request

log = structlog.get_logger(__name__)

Answer = Callable[[Request], Awaitable[bytes]]

BODY_LIMIT: Final = 4 * 1024 * 1024
"""Bytes of a review: an API server's own limit for requests is 3 MiB, and a review wraps one object."""
CONCURRENCY: Final = 16
"""Reviews at once; with BODY_LIMIT this bounds memory."""
CONNECTIONS: Final = 256
CONNECTIONS_OF_ONE: Final = 64
"""Connections at once, in all and from one address."""
IDLE_SECONDS: Final = 120.0
"""Longer than API servers keep idle connections (90 s): they close first, and never send into a closing one."""
HANDSHAKE_SECONDS: Final = 5.0
_STOP_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the server."""

    body: int = BODY_LIMIT
    concurrency: int = CONCURRENCY
    connections: int = CONNECTIONS
    connections_of_one: int = CONNECTIONS_OF_ONE
    seconds: float = TIMEOUT_SECONDS


class Identity:
    """The certificate that new connections are shown; `load` changes it without a pause."""

    def __init__(self, *, client_ca: bytes | None = None) -> None:
        self.loaded = asyncio.Event()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
        self.context.num_tickets = 0
        self.context.set_alpn_protocols(["http/1.1"])
        if client_ca is not None:
            self.context.load_verify_locations(cadata=client_ca.decode())
            self.context.verify_mode = ssl.CERT_REQUIRED

    def load(self, pem: bytes) -> None:
        """Take key and certificate; raises ssl.SSLError and keeps the old ones. The key never touches a disk."""
        descriptor = os.memfd_create("isthmus-webhook", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, pem)
            self.context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
        self.loaded.set()


class _Bounded(web.Server):
    """Closes connections beyond the limits as soon as they are made."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], limits: Limits) -> None:
        # Compressed bodies stay compressed, and so malformed: API servers send none, and small ones unpack to big ones.
        # What is left of a refused body is not read (`lingering_time`).
        super().__init__(
            handler, access_log=None, keepalive_timeout=IDLE_SECONDS, lingering_time=0.0, auto_decompress=False
        )
        self._limits = limits
        self._sources: Counter[str] = Counter()
        self._source_of: dict[RequestHandler, str] = {}

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        peer = transport.get_extra_info("peername")
        source = str(peer[0]) if peer else ""
        self._source_of[handler] = source
        self._sources[source] += 1
        many = len(self._source_of) > self._limits.connections
        if many or self._sources[source] > self._limits.connections_of_one:
            log.warning("too many connections to the webhook", source=source)
            transport.abort()

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        source = self._source_of.pop(handler, None)
        if source is not None:
            self._sources[source] -= 1
            if self._sources[source] <= 0:
                del self._sources[source]


class WebhookServer:
    """Listens once `identity` has a certificate, and hands reviews to `answer`."""

    def __init__(
        self,
        answer: Answer,
        *,
        host: str,
        port: int,
        identity: Identity,
        limits: Limits | None = None,
        registry: prometheus_client.CollectorRegistry | None = None,
    ) -> None:
        self._answer = answer
        self._host, self._port = host, port
        self._identity = identity
        self._limits = limits or Limits()
        self._slots = asyncio.Semaphore(self._limits.concurrency)
        self._listening = asyncio.Event()
        self.port = port
        """The port it listens on: another than asked for, if that was 0."""
        self._requests = prometheus_client.Counter(
            "isthmus_webhook_requests", "Requests to the pod webhook by HTTP status.", ("code",), registry=registry
        )
        self._seconds = prometheus_client.Histogram(
            "isthmus_webhook_seconds",
            "Time from a request's head to its answer.",
            buckets=(0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 3.0),
            registry=registry,
        )

    async def run(self) -> None:
        """Serve until cancelled; requests under way are finished within two seconds."""
        await self._identity.loaded.wait()
        server = _Bounded(self._handle, self._limits)
        listener = await asyncio.get_running_loop().create_server(
            server,
            self._host,
            self._port,
            ssl=self._identity.context,
            ssl_handshake_timeout=HANDSHAKE_SECONDS,
            reuse_address=True,
        )
        self.port = int(listener.sockets[0].getsockname()[1])
        self._listening.set()
        log.info("webhook listens", host=self._host, port=self.port)
        try:
            await asyncio.Event().wait()
        finally:
            self._listening.clear()
            listener.close()
            server.pre_shutdown()
            await server.shutdown(_STOP_SECONDS)

    async def ready(self) -> None:
        """Wait until it listens."""
        await self._listening.wait()

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        began = time.monotonic()
        response = await self._respond(request)
        response.headers["Server"] = "isthmus"
        self._requests.labels(str(response.status)).inc()
        self._seconds.observe(time.monotonic() - began)
        return response

    async def _respond(self, request: web.BaseRequest) -> web.Response:
        if request.path != PATH:
            return _error(404, "not found")
        if request.method != "POST" or request.content_type != "application/json":
            return _error(400, "POST an AdmissionReview as application/json")
        try:
            async with asyncio.timeout(self._limits.seconds), self._slots:
                asked = review.read(await self._body(request))
                return web.Response(body=await self._answer(asked), content_type="application/json")
        except TimeoutError:
            return _error(503, "no answer in time")
        except _TooLargeError:
            return _error(413, f"more than {self._limits.body} bytes")
        except MalformedError as error:
            log.info("malformed review", source=request.remote, error=str(error)[:200])
            return _error(400, "malformed AdmissionReview")

    async def _body(self, request: web.BaseRequest) -> bytes:
        if (request.content_length or 0) > self._limits.body:
            raise _TooLargeError
        parts = bytearray()
        async for part in request.content.iter_any():
            parts += part
            if len(parts) > self._limits.body:
                raise _TooLargeError
        return bytes(parts)


class _TooLargeError(Exception):
    """A body beyond the limit; what is left of it is not read."""


def _error(status: int, text: str) -> web.Response:
    response = web.Response(status=status, text=f"{text}\n")
    response.force_close()
    return response
