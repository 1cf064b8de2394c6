"""HTTP/1.1 upgrades to an API server, on connections of their own.

The request head is written here, byte by byte, from validated parts. The answer's head is read up
to its end and no further: what the server sends right after it stays in the reader. Nothing is
interpreted beyond that, so SPDY and WebSocket pass alike.
"""

import asyncio
import contextlib
import re
import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

from kube.config import Access
from kube.errors import ProtocolError, TransportError
from kube.transport import Params, Transport, keep_alive, url_of

_HEAD_LIMIT = 64 * 1024
_BUFFER = 256 * 1024
_CLOSE_TIMEOUT = 5.0
_BODY_TIMEOUT = 10.0
_CHUNK_LINE = 1024
# Never taken from a caller: they would change whom the server thinks we are or where the message ends (A13, A14).
_FORBIDDEN = frozenset(
    {
        "authorization",
        "connection",
        "content-length",
        "cookie",
        "forwarded",
        "host",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "user-agent",
    }
)
_FORBIDDEN_PREFIXES = ("impersonate-", "x-remote-", "x-forwarded-")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2})(?: [^\r\n]*)?")


class Upgrade:
    """The server's answer and the connection. With status 101 the bytes belong to the new protocol."""

    def __init__(
        self,
        *,
        status: int,
        head: bytes,
        headers: list[tuple[str, str]],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.status = status
        self.head = head
        self.headers = headers
        self.reader = reader
        self.writer = writer

    def header(self, name: str) -> str:
        """The first header of a name (whatever its case), or an empty string."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    async def read_body(self, limit: int) -> bytes:
        """The body of an answer other than 101, at most ``limit`` bytes and 10 s; less if it is cut short."""
        body = bytearray()
        with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError, ValueError):
            async with asyncio.timeout(_BODY_TIMEOUT):
                await self._read_body(body, limit)
        return bytes(body[:limit])

    async def aclose(self) -> None:
        """Close the connection, if need be the hard way. Safe to call twice."""
        self.writer.close()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self.writer.wait_closed()
        except (OSError, TimeoutError):
            pass
        finally:
            self.writer.transport.abort()

    async def _read_body(self, body: bytearray, limit: int) -> None:
        if self.header("Transfer-Encoding").lower() == "chunked":
            await self._read_chunks(body, limit)
            return
        length = self.header("Content-Length")
        wanted = min(int(length), limit) if length.isascii() and length.isdigit() else limit
        while len(body) < wanted and (data := await self.reader.read(wanted - len(body))):
            body += data

    async def _read_chunks(self, body: bytearray, limit: int) -> None:
        while len(body) < limit:
            line = await self.reader.readuntil(b"\r\n")
            size = int(line[:_CHUNK_LINE].split(b";")[0], 16)
            if size <= 0:
                return
            body += await self.reader.readexactly(min(size, limit - len(body)))
            if len(body) < limit:
                await self.reader.readexactly(2)


async def open_upgrade(
    transport: Transport,
    method: str,
    path: str,
    *,
    params: Params,
    headers: Sequence[tuple[str, str]],
    timeout: float,
) -> Upgrade:
    """Connect, ask, and read the head of the answer; once more with new credentials after a 401.

    Raises ValueError for headers that are none, TransportError, ProtocolError.
    """
    access = await transport.credentials.access()
    answer = await _attempt(transport, access, method, path, params=params, headers=headers, timeout=timeout)
    if answer.status == 401:
        await answer.aclose()
        access = await transport.credentials.renew(access)
        answer = await _attempt(transport, access, method, path, params=params, headers=headers, timeout=timeout)
    transport.count("upgrade", "", str(answer.status))
    return answer


async def _attempt(
    transport: Transport,
    access: Access,
    method: str,
    path: str,
    *,
    params: Params,
    headers: Sequence[tuple[str, str]],
    timeout: float,
) -> Upgrade:
    head = request_head(access, method, path, params=params, headers=headers, user_agent=transport.user_agent)
    what = f"{method} {path}"
    sent = False
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await _connect(access)
            sent = True
            writer.write(head)
            await writer.drain()
            status, raw, found = await _read_head(reader, what=what)
    except BaseException as error:
        if writer is not None:
            writer.transport.abort()
        if isinstance(error, ssl.SSLCertVerificationError):
            raise TransportError(f"{what}: certificate not accepted: {error.verify_message}", sent=False) from error
        if isinstance(error, OSError | asyncio.IncompleteReadError):
            raise TransportError(f"{what}: {type(error).__name__}", sent=sent) from error
        raise
    return Upgrade(status=status, head=raw, headers=found, reader=reader, writer=writer)


async def _connect(access: Access) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(access.server)
    assert parts.hostname is not None
    secure = access.ssl is not None
    reader, writer = await asyncio.open_connection(
        parts.hostname,
        parts.port or (443 if secure else 80),
        ssl=access.ssl,
        server_hostname=(access.server_name or parts.hostname) if secure else None,
        limit=_BUFFER,
    )
    keep_alive(writer.get_extra_info("socket"))
    return reader, writer


def request_head(
    access: Access,
    method: str,
    path: str,
    *,
    params: Params,
    headers: Sequence[tuple[str, str]],
    user_agent: str,
) -> bytes:
    """The request line and headers. Identity, framing and hop headers of the caller are left out."""
    if not re.fullmatch(r"[A-Z]+", method):
        raise ValueError("not an HTTP method")
    url = url_of(access, path, params)
    lines = [f"{method} {url.raw_path_qs} HTTP/1.1", f"Host: {urlsplit(access.server).netloc}"]
    lines.append(f"User-Agent: {user_agent}")
    if access.token is not None:
        lines.append(f"Authorization: Bearer {access.token}")
    names = set()
    for name, value in headers:
        if not _TOKEN.fullmatch(name) or any(c in value for c in "\r\n\0") or not value.isascii():
            raise ValueError(f"not a valid header: {name[:80]!r}")
        if name.lower() in _FORBIDDEN or name.lower().startswith(_FORBIDDEN_PREFIXES):
            continue
        names.add(name.lower())
        lines.append(f"{name}: {value}")
    if "upgrade" not in names:
        raise ValueError("an upgrade request needs an Upgrade header")
    # The caller's Connection could name headers of ours for removal (A14).
    lines.append("Connection: Upgrade")
    if method not in {"GET", "HEAD"}:
        lines.append("Content-Length: 0")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


async def _read_head(reader: asyncio.StreamReader, *, what: str) -> tuple[int, bytes, list[tuple[str, str]]]:
    for _ in range(4):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            raise ProtocolError(f"{what}: the head of the answer does not end") from None
        if len(head) > _HEAD_LIMIT:
            raise ProtocolError(f"{what}: the head of the answer is larger than {_HEAD_LIMIT} bytes")
        status, headers = parse_head(head, what=what)
        # Interim answers (RFC 9110 15.2) precede the real one; 101 is a real one.
        if status == 101 or status >= 200:
            return status, head, headers
    raise ProtocolError(f"{what}: too many interim answers")


def parse_head(head: bytes, *, what: str) -> tuple[int, list[tuple[str, str]]]:
    """Status and headers of a response head ending in an empty line. Raises ProtocolError."""
    first, *rest = head[:-4].split(b"\r\n")
    matched = _STATUS_LINE.fullmatch(first)
    if matched is None:
        raise ProtocolError(f"{what}: not an HTTP/1.1 answer")
    headers: list[tuple[str, str]] = []
    for line in rest:
        name, colon, value = line.partition(b":")
        text = name.decode("latin-1")
        if not colon or not _TOKEN.fullmatch(text) or b"\n" in value or b"\r" in value:
            raise ProtocolError(f"{what}: malformed header in the answer")
        headers.append((text, value.strip(b" \t").decode("latin-1")))
    return int(matched[1]), headers
