"""exec, attach and port-forward, spliced."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import socket

import msgspec
import pytest

from tests.unit.vk_server.conftest import PROVIDER_TOKEN, SPDY, UID, WEBSOCKET, Kubelet, Start, eventually
from tests.unit.vk_server.wire import Head, delivered, paced, read_head, switching
from vk.server.interfaces import LocatedPod

EXEC = "/exec/default/web/app?command=sh&command=-c&command=echo+%C3%A4&input=1&output=1&error=1"


def request(target: str, headers: list[tuple[str, str]], *, method: str = "POST") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: kubelet", *(f"{k}: {v}" for k, v in headers)]
    return "\r\n".join([*lines, "", ""]).encode()


async def test_exec_over_spdy_reaches_the_remote_pod_with_a_query_made_anew(kubelet: Kubelet) -> None:
    async with kubelet.connect() as (reader, writer):
        writer.write(request(EXEC, SPDY))
        head = await read_head(reader)
        assert head.status == 101
        assert head.one("Upgrade") == "SPDY/3.1"
        assert head.one("X-Stream-Protocol-Version") == "v4.channel.k8s.io"
        writer.write(b"\x80\x03hello")
        assert await reader.readexactly(7) == b"\x80\x03hello"
    sent = kubelet.provider.heads[0]
    assert sent.first.split()[0] == "POST"
    assert sent.path == "/api/v1/namespaces/default-c1/pods/web/exec"
    assert sent.query == [
        ("container", "app"),
        ("command", "sh"),
        ("command", "-c"),
        ("command", "echo ä"),
        ("stdin", "true"),
        ("stdout", "true"),
        ("stderr", "true"),
    ]
    assert sent.all("X-Stream-Protocol-Version") == ["v4.channel.k8s.io", "v3.channel.k8s.io"]


@pytest.mark.parametrize(
    ("target", "remote"),
    [
        (EXEC, "/api/v1/namespaces/default-c1/pods/web/exec"),
        (f"/exec/default/web/{UID}/app?command=id&output=1", "/api/v1/namespaces/default-c1/pods/web/exec"),
        ("/attach/default/web/debugger?input=1&output=1&tty=1", "/api/v1/namespaces/default-c1/pods/web/attach"),
        ("/portForward/default/web?port=80,443&port=1", "/api/v1/namespaces/default-c1/pods/web/portforward"),
    ],
)
async def test_websockets_pass(kubelet: Kubelet, target: str, remote: str) -> None:
    async with kubelet.connect() as (reader, writer):
        writer.write(request(target, WEBSOCKET, method="GET"))
        assert (await read_head(reader)).status == 101
        writer.write(b"ping")
        assert await reader.readexactly(4) == b"ping"
    sent = kubelet.provider.heads[0]
    assert sent.first.split()[0] == "GET"
    assert sent.path == remote
    assert sent.one("Sec-WebSocket-Key") == "dGhlIHNhbXBsZSBub25jZQ=="
    if "portForward" in target:
        assert sent.query == [("ports", "80"), ("ports", "443"), ("ports", "1")]


@pytest.mark.parametrize("chunk", [1 << 16, 999_983])
async def test_100_mb_pass_byte_exact_both_ways(kubelet: Kubelet, chunk: int) -> None:
    total = 100 * 1000 * 1000
    block = os.urandom(chunk)

    async def send(writer: asyncio.StreamWriter) -> str:
        digest, left = hashlib.blake2b(), total
        while left:
            part = block[: min(left, chunk)]
            digest.update(part)
            writer.write(part)
            await writer.drain()
            left -= len(part)
        return digest.hexdigest()

    async def receive(reader: asyncio.StreamReader) -> str:
        digest, left = hashlib.blake2b(), total
        while left:
            data = await reader.read(1 << 18)
            assert data, f"{left} bytes are missing"
            digest.update(data)
            left -= len(data)
        return digest.hexdigest()

    async with kubelet.connect() as (reader, writer):
        writer.write(request(EXEC, SPDY))
        await read_head(reader)
        sent, received = await asyncio.gather(send(writer), receive(reader))
    assert sent == received


async def test_what_the_provider_sent_before_it_closed_arrives_though_the_caller_still_sends(
    kubelet: Kubelet,
) -> None:
    payload = os.urandom(8_000_000)

    async def burst(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(switching(head) + payload)
        await delivered(writer)

    kubelet.provider.script = burst
    async with asyncio.timeout(20), kubelet.connect() as (reader, writer):
        # A small window, so that the end is not reached long before it is read: asyncio, here the caller, loses what
        # it has not read when it writes to a connection that is gone.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**17)
        writer.write(request(EXEC, SPDY))
        await read_head(reader)
        received = bytearray()
        while data := await reader.read(100_000):
            received += data
            if len(received) < len(payload) - 3_000_000:
                writer.write(b"still here")
            await asyncio.sleep(0)
        assert hashlib.sha256(received).digest() == hashlib.sha256(payload).digest()


async def test_a_reader_that_stops_holds_the_provider_back(kubelet: Kubelet) -> None:
    written = 0
    stalled = asyncio.Event()

    async def flood(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(switching(head))
        while True:
            writer.write(bytes(65536))
            written += 65536
            try:
                async with asyncio.timeout(1):
                    await paced(writer)
            except TimeoutError:
                stalled.set()
                await paced(writer)

    kubelet.provider.script = flood
    async with asyncio.timeout(20), kubelet.connect() as (reader, writer):
        writer.write(request(EXEC, SPDY))
        await read_head(reader)
        await stalled.wait()
        assert written < 32_000_000
        before = written
        while written < before + 16_000_000:
            assert await reader.read(1 << 20)


async def test_f39_a_caller_that_vanishes_takes_the_remote_stream_with_it(kubelet: Kubelet) -> None:
    for _ in range(20):
        async with kubelet.connect() as (reader, writer):
            writer.write(request(EXEC, SPDY))
            await read_head(reader)
            writer.transport.abort()
    async with asyncio.timeout(20):
        await kubelet.provider.idle.wait()
    assert len(kubelet.provider.heads) == 20
    await eventually(lambda: kubelet.metric("isthmus_kubelet_streams_open", route="exec") == 0)


async def test_the_end_of_the_remote_stream_ends_the_callers(kubelet: Kubelet) -> None:
    async def brief(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(switching(head) + b"done")

    kubelet.provider.script = brief
    async with asyncio.timeout(20), kubelet.connect() as (reader, writer):
        writer.write(request(EXEC, SPDY))
        await read_head(reader)
        assert await reader.read() == b"done"


async def test_bytes_and_requests_are_counted(kubelet: Kubelet) -> None:
    async with kubelet.connect() as (reader, writer):
        writer.write(request(EXEC, SPDY))
        await read_head(reader)
        writer.write(b"12345")
        await reader.readexactly(5)
        assert kubelet.metric("isthmus_kubelet_streams_open", route="exec") == 1
    counter = "isthmus_kubelet_http_requests_total"
    await eventually(lambda: kubelet.metric(counter, route="exec", method="POST", code="101") == 1)
    assert kubelet.metric("isthmus_kubelet_stream_bytes_total", route="exec", direction="in") == 5
    assert kubelet.metric("isthmus_kubelet_stream_bytes_total", route="exec", direction="out") == 5


async def test_silence_beyond_the_idle_time_ends_a_stream(start: Start) -> None:
    async with start(stream_idle_timeout=0.2) as kubelet, kubelet.connect() as (reader, writer):
        writer.write(request(EXEC, SPDY))
        await read_head(reader)
        async with asyncio.timeout(20):
            assert await reader.read() == b""


async def test_fifty_sessions_at_once(kubelet: Kubelet) -> None:
    async def session(number: int) -> None:
        async with kubelet.connect() as (reader, writer):
            writer.write(request(EXEC, SPDY))
            assert (await read_head(reader)).status == 101
            text = f"session {number}".encode()
            writer.write(text)
            assert await reader.readexactly(len(text)) == text

    async with asyncio.timeout(30):
        await asyncio.gather(*(session(number) for number in range(50)))


async def test_a6_unknown_pods_are_404_and_make_no_remote_call(kubelet: Kubelet) -> None:
    for target in ("/exec/other/web/app?output=1", "/exec/default/api/app?output=1", "/portForward/default/api"):
        answer = await kubelet.ask(target, method="POST", headers=SPDY)
        assert (answer.status, answer.text) == (404, "pod does not exist")
    other = "00000000-2222-3333-4444-555555555555"
    assert (await kubelet.ask(f"/exec/default/web/{other}/app?output=1", method="POST", headers=SPDY)).status == 404
    assert kubelet.provider.heads == []


async def test_a7_container_names(kubelet: Kubelet) -> None:
    answer = await kubelet.ask("/exec/default/web/nope?output=1", method="POST", headers=SPDY)
    assert (answer.status, answer.text) == (404, 'container not found ("nope")')
    assert (await kubelet.ask("/exec/default/web/?output=1", method="POST", headers=SPDY)).status == 400
    assert (await kubelet.ask("/attach/default/web/?output=1", method="POST", headers=SPDY)).status == 400
    assert kubelet.provider.heads == []
    async with kubelet.connect() as (reader, writer):
        writer.write(request("/exec/default/web/debugger?command=sh&output=1", SPDY))
        assert (await read_head(reader)).status == 101


def replaced(pod: LocatedPod) -> LocatedPod:
    assert pod.remote is not None
    uid = "22222222-0000-0000-0000-000000000000"
    return dataclasses.replace(pod, uid=uid, remote=dataclasses.replace(pod.remote, uid="new", origin_uid=uid))


@pytest.mark.parametrize("call", [2, 3])
async def test_a8_a_pod_replaced_on_the_way_gets_nothing(kubelet: Kubelet, call: int) -> None:
    """At the second look-up it is replaced before the dial, at the third between dial and answer."""
    assert kubelet.pods.pod is not None
    kubelet.pods.after[call] = replaced(kubelet.pods.pod)
    answer = await kubelet.ask(EXEC, method="POST", headers=SPDY)
    assert (answer.status, answer.text) == (404, "pod not found")
    assert len(kubelet.provider.heads) == call - 2
    await eventually(lambda: not kubelet.provider.open)


async def test_a8_a_remote_pod_of_another_origin_is_not_used(kubelet: Kubelet) -> None:
    assert kubelet.pods.pod is not None
    assert kubelet.pods.pod.remote is not None
    stale = dataclasses.replace(kubelet.pods.pod.remote, origin_uid="older")
    kubelet.pods.pod = dataclasses.replace(kubelet.pods.pod, remote=stale)
    assert (await kubelet.ask(EXEC, method="POST", headers=SPDY)).status == 404
    assert kubelet.provider.heads == []


async def test_a14_of_the_callers_headers_only_the_negotiation_travels(kubelet: Kubelet) -> None:
    forged = [
        ("Connection", "Authorization, X-Remote-User"),
        ("Authorization", "Bearer secret"),
        ("X-Remote-User", "admin"),
        ("Impersonate-User", "system:admin"),
        ("X-Forwarded-Client-Cert", "x"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("Cookie", "a=b"),
        ("Origin", "https://elsewhere"),
        ("Transfer-Encoding-X", "chunked"),
    ]
    async with kubelet.connect() as (reader, writer):
        writer.write(request(EXEC, SPDY + forged))
        assert (await read_head(reader)).status == 101
    names = {name.lower() for name, _ in kubelet.provider.heads[0].headers}
    own = {"host", "user-agent", "authorization", "content-length"}
    assert names == {"connection", "upgrade", "x-stream-protocol-version"} | own
    assert kubelet.provider.heads[0].all("Authorization") == [f"Bearer {PROVIDER_TOKEN}"]
    assert kubelet.provider.heads[0].all("Connection") == ["Upgrade"]


@pytest.mark.parametrize("code", [200, 400, 403, 404, 500, 503])
async def test_a15_after_a_refused_upgrade_nothing_more_is_relayed(kubelet: Kubelet, code: int) -> None:
    body = msgspec.json.encode({"kind": "Status", "message": "no \x1b[31mway", "reason": "Why", "code": code})

    async def refuse(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {code} Sorry\r\nSet-Cookie: a=b\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await reader.read()

    kubelet.provider.script = refuse
    second = request("/exec/default/web/app?command=evil&output=1", SPDY)
    async with asyncio.timeout(20), kubelet.connect() as (reader, writer):
        writer.write(request(EXEC, SPDY) + second)
        head = await read_head(reader)
        assert head.status == code
        assert head.one("Connection").lower() == "close"
        rest = await reader.read()
        writer.write(second)
    assert msgspec.json.decode(rest)["message"] == "no \\x1b[31mway"
    assert "set-cookie" not in {name.lower() for name, _ in head.headers}
    assert len(kubelet.provider.heads) == 1


@pytest.mark.parametrize("location", ["http://169.254.169.254/", "https://localhost/", "//elsewhere"])
@pytest.mark.parametrize("code", [301, 302, 307])
async def test_a16_redirects_are_not_followed(kubelet: Kubelet, code: int, location: str) -> None:
    async def redirect(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {code} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()

    kubelet.provider.script = redirect
    for target in (EXEC, "/containerLogs/default/web/app"):
        method, headers = ("POST", SPDY) if target == EXEC else ("GET", [])
        answer = await kubelet.ask(target, method=method, headers=headers)
        assert answer.status == 502
        assert answer.head.one("Location") == ""
    assert len(kubelet.provider.heads) == 2


async def test_a31_of_the_providers_headers_only_the_negotiation_comes_back(kubelet: Kubelet) -> None:
    async def chatty(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        more = "Set-Cookie: a=b\r\nProxy-Authenticate: Basic\r\nLocation: http://x/\r\nServer: secret/1.0\r\n"
        writer.write(switching(head, more=more))
        await reader.read()

    kubelet.provider.script = chatty
    async with kubelet.connect() as (reader, writer):
        writer.write(request(EXEC, SPDY))
        head = await read_head(reader)
    assert {name for name, _ in head.headers} == {"Connection", "Upgrade", "X-Stream-Protocol-Version"}


async def test_another_protocol_than_the_one_asked_for_is_a_502(kubelet: Kubelet) -> None:
    async def wrong(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        await reader.read()

    kubelet.provider.script = wrong
    assert (await kubelet.ask(EXEC, method="POST", headers=SPDY)).status == 502


async def test_a_provider_that_is_away_is_a_502(kubelet: Kubelet) -> None:
    await kubelet.provider.stop()
    assert (await kubelet.ask(EXEC, method="POST", headers=SPDY)).status == 502


async def test_requests_that_are_no_upgrade(kubelet: Kubelet) -> None:
    answer = await kubelet.ask(EXEC, method="POST")
    assert (answer.status, answer.text) == (400, "Upgrade request required")
    h2c = [("Connection", "Upgrade"), ("Upgrade", "h2c")]
    assert (await kubelet.ask(EXEC, method="POST", headers=h2c)).status == 400
    assert kubelet.provider.heads == []


async def test_a_pod_without_a_remote_pod_is_not_there_yet(kubelet: Kubelet) -> None:
    assert kubelet.pods.pod is not None
    kubelet.pods.pod = dataclasses.replace(kubelet.pods.pod, remote=None)
    assert (await kubelet.ask(EXEC, method="POST", headers=SPDY)).status == 404
    assert kubelet.provider.heads == []
