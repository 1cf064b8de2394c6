import asyncio
import ssl
from asyncio import sslproto
from typing import Any

import pytest
import trustme

from kube import tlsbuffers

BYTES = bytes(range(256)) * 8 * 1024


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(64 * 1024):
        writer.write(data)
        await writer.drain()
    writer.close()


def _protocol(writer: asyncio.StreamWriter) -> Any:
    return writer.transport._ssl_protocol  # type: ignore[attr-defined]  # what is looked at is asyncio's own


async def test_a_connection_begins_small_and_grows_with_what_it_carries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sslproto, "SSLProtocol", sslproto.SSLProtocol)
    tlsbuffers.install()
    authority = trustme.CA()
    serving, calling = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    authority.configure_trust(calling)
    server = await asyncio.start_server(_echo, "127.0.0.1", 0, ssl=serving)
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=calling)
        writer.write(b"little")
        assert await reader.readexactly(6) == b"little"
        assert len(_protocol(writer)._ssl_buffer) == tlsbuffers.SMALL
        sending = asyncio.create_task(_send(writer))
        assert await reader.readexactly(len(BYTES)) == BYTES
        await sending
        assert len(_protocol(writer)._ssl_buffer) == tlsbuffers.LARGE
        writer.close()
        await writer.wait_closed()


async def _send(writer: asyncio.StreamWriter) -> None:
    writer.write(BYTES)
    await writer.drain()
