"""HTTP to one API server: one aiohttp session, credentials, time limits, retries, metrics.

What is retried here is what cannot do harm: a request the server did not take up (429, or 401 once
after reading the credentials anew), and reads on a fault of server or network. A write whose answer
was lost is never repeated: the caller must look first. Redirects are never followed, cookies not
kept, compressed answers neither asked for nor accepted, answers bounded in size.
"""

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass

import aiohttp
from multidict import CIMultiDictProxy
from prometheus_client import Counter, Histogram
from yarl import URL

from kube import backoff, errors, metrics
from kube.config import Access, Credentials
from kube.errors import KubeError, ProtocolError, TransportError
from kube.limiter import AdaptiveLimiter

Params = Sequence[tuple[str, str]]

_CONNECT_TIMEOUT = 10.0
_HEAD_TIMEOUT = 30.0
# A page of 500 objects is some 4 MB; one object is at most 3 MB. This only bounds a hostile peer.
_BODY_LIMIT = 256 * 1024 * 1024
_READS = 2
_LONGEST_WAIT = 10.0
_RETRIED = frozenset({429, 500, 502, 503, 504})
# Noticing a dead peer within 15 s (fault F5): probes after 4 s of silence, given up when 12 s go unanswered.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 4), (socket.TCP_KEEPINTVL, 2), (socket.TCP_KEEPCNT, 4))
_USER_TIMEOUT_MS = 12_000


@dataclass(frozen=True, slots=True)
class Request:
    """An ordinary request. ``verb`` and ``resource`` are labels of metrics; ``limited`` uses the limiter."""

    method: str
    path: str
    verb: str
    resource: str
    params: Params = ()
    body: bytes | None = None
    content_type: str = "application/json"
    timeout: float = 30.0
    limited: bool = True
    on_warning: Callable[[str], None] | None = None
    """Called with the text of each `Warning` header of a good answer (KEP-1693)."""

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def idempotent(self) -> bool:
        """A read: repeating it does no harm."""
        return self.method in {"GET", "HEAD"}


class StreamedResponse:
    """An answer whose body is read as it comes. Valid inside the ``async with`` that gave it."""

    def __init__(self, response: aiohttp.ClientResponse, *, what: str) -> None:
        self._response = response
        self._what = what
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    async def iter_any(self) -> AsyncIterator[bytes]:
        """The body in pieces, as they arrive; the peer is not read from faster than these are taken."""
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise _transport_error(error, what=self._what) from error

    async def read(self, limit: int = 1024 * 1024) -> bytes:
        """The body, up to ``limit`` bytes; what comes after is cut off."""
        parts: list[bytes] = []
        size = 0
        async for chunk in self.iter_any():
            parts.append(chunk)
            size += len(chunk)
            if size >= limit:
                break
        return b"".join(parts)[:limit]


class Transport:
    """Sends requests with the current credentials. Made by :func:`connect`."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        credentials: Credentials,
        name: str,
        user_agent: str,
        limiter: AdaptiveLimiter,
        metrics: metrics.Metrics,
    ) -> None:
        self._session = session
        self.credentials = credentials
        self.name = name
        self.user_agent = user_agent
        self.limiter = limiter
        self.metrics = metrics
        self._counters: dict[tuple[str, str, str], Counter] = {}
        self._timers: dict[str, Histogram] = {}
        metrics.client_limit.labels(name).set_function(lambda: limiter.limit)

    async def request(self, request: Request) -> bytes:
        """Send, retry what may be retried, and return the body of a 2xx answer. Raises KubeError."""
        attempt = 0
        while True:
            try:
                return await self._authenticated(request)
            except KubeError as error:
                delay = _retry_delay(request, error, attempt=attempt)
                if delay is None:
                    raise
            attempt += 1
            await asyncio.sleep(delay)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Params,
        headers: Mapping[str, str] | None = None,
        verb: str = "stream",
        resource: str = "",
    ) -> AsyncIterator[StreamedResponse]:
        """Open a long answer. Only connecting and the head are limited in time; any status is given as it is."""
        access = await self.credentials.access()
        what = f"{method} {path}"
        try:
            response = await self._open(access, method, path, params=params, headers=headers)
        except TransportError as error:
            if method != "GET" or not error.sent:
                raise
            # A kept connection that the server had closed meanwhile: that is no failure of the server's.
            response = await self._open(access, method, path, params=params, headers=headers)
        if response.status == 401:
            response.close()
            access = await self.credentials.renew(access)
            response = await self._open(access, method, path, params=params, headers=headers)
        self.count(verb, resource, str(response.status))
        try:
            yield StreamedResponse(response, what=what)
        finally:
            # Unread data may be endless, so the connection is not kept.
            response.close()

    def count(self, verb: str, resource: str, code: str) -> None:
        """Count a request in the metrics."""
        counter = self._counters.get((verb, resource, code))
        if counter is None:  # labels() is slow, and the combinations are few
            counter = self.metrics.requests.labels(self.name, verb, resource, code)
            self._counters[verb, resource, code] = counter
        counter.inc()

    def _time(self, verb: str, seconds: float) -> None:
        timer = self._timers.get(verb)
        if timer is None:
            timer = self._timers[verb] = self.metrics.request_seconds.labels(self.name, verb)
        timer.observe(seconds)

    async def _authenticated(self, request: Request) -> bytes:
        access = await self.credentials.access()
        status, headers, body = await self._observed(access, request)
        if status == 401:
            access = await self.credentials.renew(access)
            status, headers, body = await self._observed(access, request)
        if status < 300:
            if request.on_warning is not None:
                for header in headers.getall("Warning", ()):
                    request.on_warning(warning_text(header))
            return body
        if status < 400:
            raise ProtocolError(f"{request}: redirects are not followed ({status})")
        raise errors.from_response(status, headers=headers, body=body, request=str(request))

    async def _observed(self, access: Access, request: Request) -> tuple[int, CIMultiDictProxy[str], bytes]:
        slot: AbstractAsyncContextManager[None] = self.limiter if request.limited else nullcontext()
        async with slot:
            began = time.monotonic()
            try:
                status, headers, body = await self._send(access, request)
            except KubeError as error:
                self.count(request.verb, request.resource, type(error).__name__)
                raise
            took = time.monotonic() - began
            # A 429 to an eviction is a disruption budget's, not the server's load.
            if request.limited and not request.path.endswith("/eviction"):
                after = errors.parse_retry_after(headers.get("Retry-After"))
                self.limiter.observe(status, took, retry_after=after)
        self.count(request.verb, request.resource, str(status))
        self._time(request.verb, took)
        return status, headers, body

    async def _send(self, access: Access, request: Request) -> tuple[int, CIMultiDictProxy[str], bytes]:
        headers = _headers(access, accept="application/json")
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        try:
            async with self._session.request(
                request.method,
                url_of(access, request.path, request.params),
                data=request.body,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=request.timeout, sock_connect=_CONNECT_TIMEOUT),
                allow_redirects=False,
                ssl=access.ssl or True,
                server_hostname=access.server_name,
            ) as response:
                return response.status, response.headers, await _body(response, what=str(request))
        except (aiohttp.ClientError, OSError) as error:
            raise _transport_error(error, what=str(request)) from error

    async def _open(
        self, access: Access, method: str, path: str, *, params: Params, headers: Mapping[str, str] | None
    ) -> aiohttp.ClientResponse:
        try:
            async with asyncio.timeout(_HEAD_TIMEOUT):
                return await self._session.request(
                    method,
                    url_of(access, path, params),
                    headers={**(headers or {}), **_headers(access, accept=(headers or {}).get("Accept", "*/*"))},
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT),
                    allow_redirects=False,
                    ssl=access.ssl or True,
                    server_hostname=access.server_name,
                )
        except (aiohttp.ClientError, OSError) as error:
            raise _transport_error(error, what=f"{method} {path}") from error


@asynccontextmanager
async def connect(
    credentials: Credentials,
    *,
    name: str,
    user_agent: str,
    limiter: AdaptiveLimiter,
    metrics: metrics.Metrics,
) -> AsyncIterator[Transport]:
    """Hold a session for the time of the ``async with``. Connections are made when needed."""
    connector = aiohttp.TCPConnector(limit=0, socket_factory=_socket, enable_cleanup_closed=False)
    async with aiohttp.ClientSession(
        connector=connector,
        headers={"User-Agent": user_agent},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        read_bufsize=256 * 1024,
    ) as session:
        # aiohttp would send a PUT or DELETE again when a kept connection breaks before the answer: a write that may
        # have been carried out already. There is no public switch; a test holds this to what it is for.
        session._retry_connection = False
        yield Transport(
            session, credentials=credentials, name=name, user_agent=user_agent, limiter=limiter, metrics=metrics
        )


def url_of(access: Access, path: str, params: Params) -> URL:
    """The URL of a path that is already valid and encoded, and of parameters that are not."""
    if not path.startswith("/") or any(c in path for c in "?#\\ ") or not path.isascii() or not path.isprintable():
        raise ValueError(f"not an absolute path: {path[:80]!r}")
    url = URL(access.server + path, encoded=True)
    return url.with_query(list(params)) if params else url


def warning_text(header: str) -> str:
    """The text of a `Warning` header, `299 - "text"` with backslash escapes (RFC 7234 section 5.5)."""
    quoted = header.partition('"')[2].rpartition('"')[0]
    return re.sub(r"\\(.)", r"\1", quoted) or header


def keep_alive(sock: socket.socket) -> None:
    """Let the kernel notice a peer that is gone without a word."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option, value in _KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    sock = socket.socket(family=family, type=kind, proto=protocol)
    keep_alive(sock)
    return sock


def _headers(access: Access, *, accept: str) -> dict[str, str]:
    headers = {"Accept": accept, "Accept-Encoding": "identity"}
    if access.token is not None:
        headers["Authorization"] = f"Bearer {access.token}"
    return headers


async def _body(response: aiohttp.ClientResponse, *, what: str) -> bytes:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise ProtocolError(f"{what}: compressed answer that was not asked for")
    parts: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        parts.append(chunk)
        size += len(chunk)
        if size > _BODY_LIMIT:
            raise ProtocolError(f"{what}: answer larger than {_BODY_LIMIT} bytes")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _retry_delay(request: Request, error: KubeError, *, attempt: int) -> float | None:
    """Seconds to wait before the request is sent again, or None: give up."""
    if attempt >= _READS:
        return None
    delay = backoff.jittered(0.2 * 2.0**attempt)
    if isinstance(error, TransportError):
        return delay if request.idempotent else None
    if not isinstance(error, errors.ApiError):
        return None
    if error.status != 429 and not (request.idempotent and error.status in _RETRIED):
        return None
    delay = max(delay, error.retry_after or 0.0)
    # Whoever is told to wait long gives its place up: queues know how to wait.
    return delay if delay <= _LONGEST_WAIT else None


def _transport_error(error: Exception, *, what: str) -> TransportError | ProtocolError:
    if isinstance(error, aiohttp.ClientResponseError):
        return ProtocolError(f"{what}: not an HTTP answer ({type(error).__name__})")
    unsent = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | aiohttp.InvalidURL)
    return TransportError(f"{what}: {_words(error)}", sent=not unsent)


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"timed out ({type(error).__name__})"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"certificate not accepted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect: {error.os_error.strerror or type(error.os_error).__name__}"
    return type(error).__name__
