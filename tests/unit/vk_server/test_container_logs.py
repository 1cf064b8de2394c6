"""containerLogs."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses

import msgspec
import pytest

from tests.unit.vk_server.conftest import Kubelet, eventually
from tests.unit.vk_server.wire import Head, Script, paced, read_head

LOGS = "/containerLogs/default/web/app"


def answer(body: bytes, *, code: int = 200, more: str = "") -> Script:
    async def script(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            f"HTTP/1.1 {code} X\r\nConnection: close\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body
        )
        await writer.drain()
        await reader.read()

    return script


async def test_a_log_is_passed_on_with_the_options_asked_for(kubelet: Kubelet) -> None:
    kubelet.provider.script = answer(b"one\ntwo\n")
    got = await kubelet.ask(LOGS + "?tailLines=2&timestamps=true")
    assert (got.status, got.body) == (200, b"one\ntwo\n")
    assert got.head.one("Content-Type") == "text/plain"
    sent = kubelet.provider.heads[0]
    assert sent.path == "/api/v1/namespaces/default-c1/pods/web/log"
    assert sent.query == [("container", "app"), ("timestamps", "true"), ("tailLines", "2")]


async def test_an_empty_log(kubelet: Kubelet) -> None:
    kubelet.provider.script = answer(b"")
    got = await kubelet.ask(LOGS)
    assert (got.status, got.body) == (200, b"")


async def test_a_follower_gets_the_head_at_once_and_each_piece_as_it_comes(kubelet: Kubelet) -> None:
    more, done = asyncio.Event(), asyncio.Event()

    async def follow(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await more.wait()
        writer.write(b"4\r\none\n\r\n")
        await done.wait()
        writer.write(b"4\r\ntwo\n\r\n0\r\n\r\n")
        await writer.drain()

    kubelet.provider.script = follow
    async with asyncio.timeout(20), kubelet.connect() as (reader, writer):
        writer.write(f"GET {LOGS}?follow=true HTTP/1.1\r\nHost: k\r\n\r\n".encode())
        assert (await read_head(reader)).status == 200
        more.set()
        assert await reader.readuntil(b"one\n\r\n") == b"4\r\none\n\r\n"
        done.set()
        assert await reader.readuntil(b"0\r\n\r\n") == b"4\r\ntwo\n\r\n0\r\n\r\n"


async def test_a_silent_follow_lasts_beyond_every_time_limit_of_requests(kubelet: Kubelet) -> None:
    """The limits on heads and idle connections must not touch a request that is being answered."""
    link_closed = asyncio.Event()

    async def silent(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await reader.read()
        link_closed.set()

    kubelet.provider.script = silent
    async with kubelet.connect() as (reader, writer):
        writer.write(f"GET {LOGS}?follow=true HTTP/1.1\r\nHost: k\r\n\r\n".encode())
        await read_head(reader)
        timers = [handle for handle in asyncio.get_running_loop()._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]  # no other way to see what is planned
        soon = asyncio.get_running_loop().time() + 3600
        planned = [t for t in timers if t.when() < soon and "Connection" in repr(t)]
        assert planned == []
        assert not link_closed.is_set()


async def test_f39_a_follower_that_vanishes_takes_the_remote_stream_with_it(kubelet: Kubelet) -> None:
    async def silent(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await reader.read()

    kubelet.provider.script = silent
    for _ in range(20):
        async with kubelet.connect() as (reader, writer):
            writer.write(f"GET {LOGS}?follow=true HTTP/1.1\r\nHost: k\r\n\r\n".encode())
            await read_head(reader)
    await eventually(lambda: not kubelet.provider.open)
    await eventually(lambda: kubelet.metric("isthmus_kubelet_streams_open", route="containerLogs") == 0)
    assert len(kubelet.provider.heads) == 20


async def test_a32_limit_bytes_holds_here_whatever_the_provider_does(kubelet: Kubelet) -> None:
    async def endless(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await paced(writer)

    kubelet.provider.script = endless
    got = await kubelet.ask(LOGS + "?limitBytes=100001&follow=true")
    assert got.body == b"x" * 100_001
    await eventually(lambda: not kubelet.provider.open)


async def test_a32_a_slow_reader_holds_the_provider_back(kubelet: Kubelet) -> None:
    written, stalled = 0, asyncio.Event()

    async def flood(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
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
        writer.write(f"GET {LOGS} HTTP/1.1\r\nHost: k\r\n\r\n".encode())
        await read_head(reader)
        await stalled.wait()
        assert written < 32_000_000


async def test_a_log_that_breaks_off_is_not_given_a_proper_end(kubelet: Kubelet) -> None:
    async def broken(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")
        await writer.drain()

    kubelet.provider.script = broken
    async with asyncio.timeout(20), kubelet.connect() as (reader, writer):
        writer.write(f"GET {LOGS} HTTP/1.1\r\nHost: k\r\n\r\n".encode())
        await read_head(reader)
        rest = b""
        with contextlib.suppress(ConnectionError):
            rest = await reader.read()
        assert not rest.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("code", [400, 403, 404, 422, 500, 503])
async def test_errors_of_the_provider_are_plain_text_with_their_code(kubelet: Kubelet, code: int) -> None:
    message = 'container "app" in pod "web" is waiting to start: \x1b[1mPodInitializing'
    body = msgspec.json.encode({"kind": "Status", "message": message, "code": code})
    kubelet.provider.script = answer(body, code=code, more="Set-Cookie: a=b\r\n")
    got = await kubelet.ask(LOGS)
    assert (got.status, got.text) == (code, message.replace("\x1b", "\\x1b"))
    assert got.head.one("Content-Type").startswith("text/plain")
    assert got.head.one("Set-Cookie") == ""


async def test_refused_credentials_are_not_the_callers_fault(kubelet: Kubelet) -> None:
    kubelet.provider.script = answer(b"{}", code=401)
    assert (await kubelet.ask(LOGS)).status == 502


async def test_what_the_kubelet_says_of_unknown_pods_and_containers(kubelet: Kubelet) -> None:
    got = await kubelet.ask("/containerLogs/default/api/app")
    assert (got.status, got.text) == (404, 'pod "api" does not exist')
    got = await kubelet.ask("/containerLogs/default/web/nope")
    assert (got.status, got.text) == (404, 'container "nope" not found in pod "web"')
    assert kubelet.pods.pod is not None
    kubelet.pods.pod = dataclasses.replace(kubelet.pods.pod, remote=None)
    got = await kubelet.ask(LOGS)
    assert (got.status, got.text) == (400, 'container "app" in pod "web" is waiting to start: ContainerCreating')
    assert kubelet.provider.heads == []


async def test_a19_options_are_checked_before_the_provider_is_asked(kubelet: Kubelet) -> None:
    got = await kubelet.ask(LOGS + "?tailLines=-1")
    assert (got.status, got.text) == (422, '{"message": "Invalid request."}')
    got = await kubelet.ask(LOGS + "?sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z")
    assert got.status == 422
    got = await kubelet.ask(LOGS + "?tailLines=1e20")
    assert (got.status, got.text) == (400, '{"message": "Unable to decode query."}')
    assert kubelet.provider.heads == []


async def test_a31_the_providers_headers_stay_there(kubelet: Kubelet) -> None:
    kubelet.provider.script = answer(b"x", more="Set-Cookie: a=b\r\nProxy-Authenticate: Basic\r\nX-Other: 1\r\n")
    got = await kubelet.ask(LOGS)
    assert {name.lower() for name, _ in got.head.headers} <= {"content-type", "transfer-encoding", "date", "server"}


async def test_a_provider_that_is_away_is_a_502(kubelet: Kubelet) -> None:
    await kubelet.provider.stop()
    assert (await kubelet.ask(LOGS)).status == 502
