"""The splice on bare TCP, where the kernel's buffers are ours to choose."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import ssl
import struct
from asyncio.sslproto import SSLProtocolState
from typing import Any

import pytest
import trustme
from aiohttp import web

from tests.unit.vk_server.conftest import SPDY, Kubelet, eventually
from tests.unit.vk_server.wire import read_head
from vk.server import splice
from vk.server.connection import Connection

_BACKOFF = 4
"""Where struct tcp_info (linux/tcp.h) has it."""


def ends(*, receive: int, send: int) -> tuple[socket.socket, socket.socket]:
    """A TCP connection: the end for the splice, with buffers of these sizes, and the peer's."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        ours = socket.socket()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send)
        ours.connect(listening.getsockname())
        peer, _ = listening.accept()
    ours.setblocking(False)
    return ours, peer


async def adopt(ours: socket.socket) -> asyncio.Transport:
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, ours)
    transport.pause_reading()
    return transport


async def start(caller: socket.socket, provider: socket.socket, **more: Any) -> asyncio.Task[None]:
    inside, outside = await adopt(caller), await adopt(provider)
    counters = splice.Counters(inbound=lambda _: None, outbound=lambda _: None)
    settings = {"greeting": b"", "early": b"", "idle_timeout": 60.0, **more}
    return asyncio.create_task(splice.run(inside, outside, tcp=inside, counters=counters, **settings))


def drain(peer: socket.socket) -> bytes:
    received = bytearray()
    while data := peer.recv(65536):
        received += data
    return bytes(received)


async def test_a_provider_that_resets_is_still_read_to_the_end_while_the_caller_writes() -> None:
    caller, kubectl = ends(receive=65536, send=4096)
    provider, apiserver = ends(receive=2**20, send=65536)
    kubectl.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    payload = os.urandom(400_000)
    task = await start(caller, provider)
    await asyncio.to_thread(apiserver.sendall, payload)
    apiserver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    apiserver.close()
    for _ in range(20):
        kubectl.sendall(b"more input")
        await asyncio.sleep(0.005)
    async with asyncio.timeout(10):
        assert await asyncio.to_thread(drain, kubectl) == payload
        await task
    kubectl.close()


@pytest.mark.parametrize("stalls", ["caller", "provider"])
async def test_an_end_that_takes_nothing_for_long_is_not_cut_off(stalls: str) -> None:
    """A pager, or a command that does not read its input yet: TCP_USER_TIMEOUT ends connections with such an end."""
    caller, kubectl = ends(receive=65536, send=65536)
    provider, apiserver = ends(receive=65536, send=65536)
    for ours in (caller, provider):
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)
    sender, reader = (apiserver, kubectl) if stalls == "caller" else (kubectl, apiserver)
    stalled = caller if stalls == "caller" else provider
    payload = os.urandom(4_000_000)
    task = await start(caller, provider)
    sending = asyncio.create_task(asyncio.to_thread(sender.sendall, payload))
    # Probes of the closed window, each after twice the time: the third is more than a second after the first.
    await eventually(lambda: stalled.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[_BACKOFF] >= 3)
    async with asyncio.timeout(10):
        received = asyncio.create_task(asyncio.to_thread(drain, reader))
        await sending
        sender.shutdown(socket.SHUT_WR)
        assert await received == payload
        kubectl.close()
        apiserver.close()
        await task


@pytest.mark.parametrize(
    "record", [1400, 3000, 5000, 7000, 9000, 10_000, 11_000, 12_000, 13_000, 14_000, 15_000, 16_384]
)
async def test_all_that_tls_holds_when_a_provider_ends_reaches_a_caller_that_is_slow(record: int) -> None:
    """Also the rest of a record that the buffer had no room for when the caller was full."""
    caller, kubectl = ends(receive=65536, send=16384)
    kubectl.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    payload = os.urandom(300_000)
    authority = trustme.CA()
    serving, calling = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    authority.configure_trust(calling)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        sent = asyncio.create_task(asyncio.to_thread(_send_by_tls, listening, serving, payload, record))
        provider, _ = await asyncio.get_running_loop().create_connection(
            asyncio.Protocol, *listening.getsockname(), ssl=calling
        )
        provider.pause_reading()
        inside = await adopt(caller)
        counters = splice.Counters(inbound=lambda _: None, outbound=lambda _: None)
        task = asyncio.create_task(
            splice.run(inside, provider, tcp=inside, greeting=b"", early=b"", counters=counters, idle_timeout=60.0)
        )
        await sent
        held: Any = provider
        await eventually(lambda: held._ssl_protocol._state is SSLProtocolState.FLUSHING)
        async with asyncio.timeout(20):
            assert await asyncio.to_thread(drain, kubectl) == payload
            await task
    kubectl.close()


def _send_by_tls(listening: socket.socket, serving: ssl.SSLContext, payload: bytes, record: int) -> None:
    """In records of this size; then the end."""
    accepted, _ = listening.accept()
    with serving.wrap_socket(accepted, server_side=True) as connection:
        for start in range(0, len(payload), record):
            connection.sendall(payload[start : start + record])


async def test_what_came_early_goes_first_also_if_the_provider_is_gone() -> None:
    caller, kubectl = ends(receive=65536, send=65536)
    provider, apiserver = ends(receive=65536, send=65536)
    apiserver.close()
    task = await start(caller, provider, greeting=b"head", early=b"tail")
    async with asyncio.timeout(10):
        assert await asyncio.to_thread(drain, kubectl) == b"headtail"
        await task
    kubectl.close()


async def test_what_a_caller_sent_before_it_left_reaches_the_provider() -> None:
    caller, kubectl = ends(receive=2**20, send=65536)
    provider, apiserver = ends(receive=65536, send=65536)
    payload = os.urandom(200_000)
    task = await start(caller, provider)
    await asyncio.to_thread(kubectl.sendall, payload)
    kubectl.close()
    async with asyncio.timeout(10):
        assert await asyncio.to_thread(drain, apiserver) == payload
        await task
    apiserver.close()


async def test_f39_a_provider_that_takes_nothing_does_not_keep_a_stream_whose_caller_is_gone() -> None:
    caller, kubectl = ends(receive=65536, send=65536)
    provider, apiserver = ends(receive=65536, send=4096)
    apiserver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    task = await start(caller, provider)
    await asyncio.to_thread(kubectl.sendall, bytes(30_000))
    kubectl.close()
    async with asyncio.timeout(20):
        await task
    apiserver.close()


async def test_a_cancelled_splice_cuts_both_ends() -> None:
    caller, kubectl = ends(receive=65536, send=65536)
    provider, apiserver = ends(receive=65536, send=65536)
    task = await start(caller, provider)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait((task,))
    async with asyncio.timeout(20):
        for peer in (kubectl, apiserver):
            peer.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(peer, 10) == b""
            peer.close()


async def test_f39_nothing_is_left_of_a_stream(kubelet: Kubelet) -> None:
    def alive() -> int:
        gc.collect()
        return sum(isinstance(item, Connection | splice._End | web.RequestHandler) for item in gc.get_objects())

    # Loops of other tests that were closed may have left some.
    before = alive()
    lines = ["POST /exec/default/web/app?command=sh&output=1 HTTP/1.1", "Host: k", *(f"{k}: {v}" for k, v in SPDY)]
    for _ in range(10):
        async with kubelet.connect() as (reader, writer):
            writer.write("\r\n".join([*lines, "", ""]).encode())
            assert (await read_head(reader)).status == 101

    counter = "isthmus_kubelet_http_requests_total"
    await eventually(lambda: kubelet.metric(counter, route="exec", method="POST", code="101") == 10)
    await eventually(lambda: not kubelet.provider.open)
    await eventually(lambda: alive() <= before, within=30)
