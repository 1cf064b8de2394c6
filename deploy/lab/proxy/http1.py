"""As much HTTP/1.1 as a proxy needs that wants to spoil messages: heads parsed, bodies framed (RFC 9112)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

Headers = list[tuple[str, str]]
HEAD_LIMIT = 1 << 20


class Closed(Exception):  # noqa: N818 an ordinary end, not an error
    """The peer closed the connection between two messages."""


@dataclass(slots=True)
class Head:
    """The first line and the headers of a message."""

    first: tuple[str, str, str]
    headers: Headers = field(default_factory=list)

    def get(self, name: str) -> str:
        """A header's value, empty if absent."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    def without(self, *names: str) -> Headers:
        """The headers except some."""
        dropped = {name.lower() for name in names}
        return [(key, value) for key, value in self.headers if key.lower() not in dropped]

    @property
    def status(self) -> int:
        """Of a response."""
        return int(self.first[1])

    @property
    def upgrade(self) -> bool:
        """Whether the message asks for or grants an upgrade."""
        return "upgrade" in self.get("Connection").lower()


async def read_head(reader: asyncio.StreamReader) -> Head:
    """The next head; Closed when the peer ended instead of sending one."""
    try:
        block = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise ConnectionResetError("connection closed within a head") from error
        raise Closed from error
    first, *lines = block[:-4].decode("latin-1").split("\r\n")
    parts = [*first.split(" ", 2), "", ""]
    headers = [(key.strip(), value.strip()) for key, _, value in (line.partition(":") for line in lines)]
    return Head((parts[0], parts[1], parts[2]), headers)


def encode_head(first: Iterable[str], headers: Headers) -> bytes:
    """A head as bytes."""
    lines = [" ".join(first), *(f"{key}: {value}" for key, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def body(reader: asyncio.StreamReader, head: Head, *, until_close: bool) -> AsyncIterator[bytes]:
    """The pieces of a message's body by its framing; with neither length nor chunks, to the end if `until_close`."""
    if "chunked" in head.get("Transfer-Encoding").lower():
        async for piece in _chunks(reader):
            yield piece
    elif head.get("Content-Length"):
        left = int(head.get("Content-Length"))
        while left:
            piece = await reader.read(min(left, 65536))
            if not piece:
                raise ConnectionResetError("connection closed within a body")
            left -= len(piece)
            yield piece
    elif until_close:
        while piece := await reader.read(65536):
            yield piece


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    try:
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            yield await reader.readexactly(size)
            await reader.readexactly(2)
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("connection closed within a chunk") from error


def chunk(data: bytes) -> bytes:
    """One chunk; the empty one ends the body."""
    return b"%x\r\n%s\r\n" % (len(data), data)
