"""A10: strangers can neither exhaust the server nor lock others out."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.unit.vk_server.conftest import SPDY, Kubelet, Start, eventually
from tests.unit.vk_server.wire import read_head
from vk.server.admission import Admission, Phase, Ticket


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def session(kubelet: Kubelet) -> None:
    """A real exec, from connecting to the first echo; within the deadlines that end a stranger's connection."""
    async with asyncio.timeout(10), kubelet.connect() as (reader, writer):
        lines = ["POST /exec/default/web/app?command=sh&output=1 HTTP/1.1", "Host: k", *(f"{k}: {v}" for k, v in SPDY)]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        assert (await read_head(reader)).status == 101
        writer.write(b"x")
        await reader.readexactly(1)


FLOOD = """
import socket, ssl, sys
port, number, tls = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "tls"
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
held = []
for _ in range(number):
    connection = socket.create_connection(("127.0.0.1", port))
    held.append(connection)
    if tls:
        try:
            held[-1] = context.wrap_socket(connection)
        except OSError:
            pass
print("flooded", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["tcp", "tls"])
async def test_a10_a_flood_of_connections_is_bounded_and_exec_goes_on(start: Start, kind: str) -> None:
    """Connections that say nothing, before or after the handshake, from the address of an honest caller."""
    async with start() as kubelet:
        await session(kubelet)
        before = resident()
        flood = await asyncio.create_subprocess_exec(
            sys.executable, "-c", FLOOD, str(kubelet.server.port), "400", kind, stdin=PIPE, stdout=PIPE
        )
        assert flood.stdin is not None
        assert flood.stdout is not None
        try:
            flooded = asyncio.ensure_future(flood.stdout.readline())
            during = 0
            while not flooded.done():
                await session(kubelet)
                during += 1
                await asyncio.wait((flooded,), timeout=0.1)
            assert kubelet.metric("isthmus_kubelet_connections_pending") <= 64
            if kind == "tls":
                assert kubelet.metric("isthmus_kubelet_connections_dropped_total") >= 200
            assert during, "there was no flood to speak of"
            assert (resident() - before) / 2**20 < 50
        finally:
            flood.stdin.close()
            await flood.wait()
        await eventually(lambda: kubelet.metric("isthmus_kubelet_connections_pending") == 0)


async def test_a10_idle_strangers_with_tls_are_bounded(start: Start) -> None:
    async with start(pending_per_source=16) as kubelet, contextlib.AsyncExitStack() as stack:
        for _ in range(60):
            await stack.enter_async_context(kubelet.connect(kubelet.anonymous))
        assert kubelet.metric("isthmus_kubelet_connections_pending") <= 16
        await session(kubelet)


async def test_a10_a_certificate_is_enough_to_be_known(start: Start) -> None:
    async with start(pending_per_source=2) as kubelet, contextlib.AsyncExitStack() as stack:
        for _ in range(6):
            await stack.enter_async_context(kubelet.connect())
        await eventually(lambda: kubelet.metric("isthmus_kubelet_connections_pending") == 0)
        assert kubelet.metric("isthmus_kubelet_connections_dropped_total") == 0


async def test_a10_known_callers_do_not_count(start: Start) -> None:
    async with start(pending_per_source=2, pending_total=4) as kubelet:
        for _ in range(5):
            await session(kubelet)
        async with contextlib.AsyncExitStack() as stack:
            held = []
            for _ in range(10):
                reader, writer = await stack.enter_async_context(kubelet.connect())
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: k\r\n\r\n")
                assert (await read_head(reader)).status == 200
                held.append((reader, writer))
            assert kubelet.metric("isthmus_kubelet_connections_pending") == 0
            for reader, writer in held:
                assert await reader.readexactly(2) == b"ok"
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: k\r\n\r\n")
                assert (await read_head(reader)).status == 200


@pytest.mark.parametrize("first", [b"", b"GET /pods HT", b"GET /pods HTTP/1.1\r\nHost: k\r\nX-Slow: "])
@pytest.mark.parametrize("known", [True, False])
async def test_a10_slow_heads_have_a_deadline(start: Start, first: bytes, known: bool) -> None:
    async with start(head_timeout=0.3) as kubelet:
        tls = kubelet.admin if known else kubelet.anonymous
        # The bound is below the default of the deadline, so it is the one set here that ends the connection.
        async with asyncio.timeout(8), kubelet.connect(tls) as (reader, writer):
            writer.write(first)
            with contextlib.suppress(ConnectionError):
                while True:
                    # One byte at a time keeps no connection open.
                    writer.write(b"x" if first else b"")
                    try:
                        async with asyncio.timeout(0.05):
                            if not await reader.read(100):
                                break
                    except TimeoutError:
                        continue


async def test_a10_the_second_head_has_a_deadline_too(start: Start) -> None:
    async with start(head_timeout=0.3) as kubelet, asyncio.timeout(20), kubelet.connect() as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: k\r\n\r\n")
        assert (await read_head(reader)).status == 200
        await reader.readexactly(2)
        async with asyncio.timeout(8):
            writer.write(b"GET /heal")
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""


async def test_a10_an_answer_may_take_longer_than_a_head(start: Start) -> None:
    async with start(head_timeout=0.2) as kubelet, asyncio.timeout(20), kubelet.connect() as (reader, writer):
        lines = ["POST /exec/default/web/app?command=sh&output=1 HTTP/1.1", "Host: k", *(f"{k}: {v}" for k, v in SPDY)]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        assert (await read_head(reader)).status == 101
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.6
        while loop.time() < end:
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"


async def test_a10_the_handshake_has_a_deadline(start: Start) -> None:
    async with start(handshake_timeout=0.3) as kubelet:
        reader, writer = await asyncio.open_connection("127.0.0.1", kubelet.server.port)
        writer.write(b"\x16\x03\x01")
        async with asyncio.timeout(8):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()
        await eventually(lambda: kubelet.metric("isthmus_kubelet_connections_pending") == 0)


def test_a10_who_gives_way() -> None:
    dropped: list[str] = []
    admission = Admission(per_source=3, total=5)

    def admit(source: str, name: str, phase: Phase = Phase.SILENT) -> Ticket:
        ticket = admission.admit(source, drop=lambda: dropped.append(name))
        ticket.phase = phase
        return ticket

    admit("flood", "f0", Phase.WORKING)
    admit("flood", "f1", Phase.SILENT)
    admit("flood", "f2", Phase.IDLE)
    admit("flood", "f3", Phase.WORKING)
    assert dropped == ["f2"]
    admit("flood", "f4", Phase.WORKING)
    assert dropped == ["f2", "f1"]
    admit("a", "a0")
    admit("b", "b0")
    admit("c", "c0")
    assert dropped == ["f2", "f1", "f0"]
    assert len(admission) == 5
    ticket = admission.admit("d", drop=lambda: None)
    assert dropped == ["f2", "f1", "f0", "f3"]
    admission.settle(ticket)
    admission.settle(ticket)
    assert len(admission) == 4
