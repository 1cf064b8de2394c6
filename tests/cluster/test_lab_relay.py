"""The relay holds bytes back and freezes, without losing any."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from deploy.lab.cluster import LabCluster
from deploy.lab.relay import Relay


@pytest.fixture
async def echo() -> AsyncIterator[tuple[str, int]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[:2]


async def test_a_delay_holds_back_and_keeps_the_bytes(echo: tuple[str, int]) -> None:
    payload = bytes(range(256)) * 4096
    async with Relay.running(echo, host="127.0.0.1", delay=0.1) as relay:
        reader, writer = await asyncio.open_connection(*relay.address)
        started = asyncio.get_running_loop().time()
        writer.write(payload)
        writer.write_eof()
        async with asyncio.timeout(10):
            assert await reader.read(1) == payload[:1]
            took = asyncio.get_running_loop().time() - started
            assert await reader.read() == payload[1:]
        writer.close()
        await writer.wait_closed()
    assert took >= 0.2


async def test_a_frozen_relay_passes_nothing_until_it_thaws(echo: tuple[str, int]) -> None:
    async with Relay.running(echo, host="127.0.0.1") as relay:
        reader, writer = await asyncio.open_connection(*relay.address)
        relay.freeze()
        writer.write(b"held")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.read(4)
        relay.thaw()
        async with asyncio.timeout(5):
            assert await reader.readexactly(4) == b"held"
        writer.close()
        await writer.wait_closed()


async def test_a_relay_stands_in_front_of_an_api_server(consumer: LabCluster, lab_gateway: str) -> None:
    target = (consumer.plan.site.ip, 6443)
    async with Relay.running(target, host=lab_gateway) as relay:
        text = await asyncio.to_thread(consumer.api_at(relay.url).text, "/readyz")
    assert text == "ok"
    assert relay.connections == 1
