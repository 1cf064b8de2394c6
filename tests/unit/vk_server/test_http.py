"""The HTTP side: methods, unknown paths, malformed requests, certificates, stopping."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from pathlib import Path

import msgspec
import pytest
from aiohttp import http_parser
from prometheus_client import CollectorRegistry

from tests.unit.vk_server.conftest import NODE, SPDY, Kubelet, Start, eventually
from tests.unit.vk_server.wire import read_head
from vk.server.app import KubeletServer, ServerConfig, require_c_parser
from vk.server.pods import chunks

GOOD = b"GET /healthz HTTP/1.1\r\nHost: k\r\n\r\n"


@pytest.mark.parametrize(
    ("target", "method", "status"),
    [
        ("/nothing", "GET", 404),
        ("/", "GET", 404),
        ("/pods/x", "GET", 404),
        ("/debug/pprof/", "GET", 404),
        ("/logs/messages", "GET", 404),
        ("/metrics/cadvisor", "GET", 404),
        ("/healthz/unknown", "GET", 404),
        ("/pods", "POST", 405),
        ("/containerLogs/default/web/app", "POST", 405),
        ("/run/default/web/app", "GET", 405),
        ("/exec/default/web/app", "PUT", 405),
        ("/metrics", "DELETE", 405),
        ("/pods", "GET", 200),
        ("/runningpods/", "GET", 200),
        ("/healthz", "GET", 200),
        ("/healthz/ping", "GET", 200),
        ("/healthz/syncloop", "GET", 200),
        ("/configz", "GET", 200),
        ("/metrics", "GET", 200),
        ("/metrics/resource", "GET", 200),
        ("/stats/summary", "GET", 200),
    ],
)
async def test_routes_and_methods(kubelet: Kubelet, target: str, method: str, status: int) -> None:
    assert (await kubelet.ask(target, method=method)).status == status


async def test_debugging_handlers_can_be_taken_away(start: Start) -> None:
    async with start(debugging_handlers=False) as kubelet:
        for target in ("/containerLogs/default/web/app", "/exec/default/web/app", "/runningpods/"):
            answer = await kubelet.ask(target)
            assert (answer.status, answer.text) == (405, "Debug endpoints are disabled.")
        assert (await kubelet.ask("/pods")).status == 200


async def test_pods_are_lists_of_the_raw_objects(kubelet: Kubelet) -> None:
    kubelet.pods.raw = [b'{"metadata":{"name":"a"},"unknown":{"kept":1}}', b'{"metadata":{"name":"b"}}']
    kubelet.pods.running = kubelet.pods.raw[:1]
    for target, raw in (("/pods", kubelet.pods.raw), ("/runningpods/", kubelet.pods.running)):
        answer = await kubelet.ask(target)
        assert answer.head.one("Content-Type") == "application/json"
        got = msgspec.json.decode(answer.body)
        assert (got["kind"], got["apiVersion"]) == ("PodList", "v1")
        assert got["items"] == [msgspec.json.decode(pod) for pod in raw]


def test_long_lists_come_in_pieces() -> None:
    pods = [b'{"n":%d,"pad":"%s"}' % (n, b"x" * 5000) for n in range(500)]
    pieces = list(chunks(pods))
    assert len(pieces) > 5
    assert msgspec.json.decode(b"".join(pieces))["items"] == [msgspec.json.decode(pod) for pod in pods]


async def test_health_follows_the_node(kubelet: Kubelet) -> None:
    assert (await kubelet.ask("/healthz")).text == "ok"
    kubelet.healthy = False
    assert (await kubelet.ask("/healthz")).status == 500
    assert (await kubelet.ask("/healthz/ping")).status == 200


async def test_configz_has_the_shape_of_a_kubelets(kubelet: Kubelet) -> None:
    configuration = msgspec.json.decode((await kubelet.ask("/configz")).body)["kubeletconfig"]
    assert configuration["kind"] == "KubeletConfiguration"
    assert configuration["authentication"]["anonymous"]["enabled"] is False
    assert configuration["authorization"]["mode"] == "Webhook"


async def test_authenticated_connections_are_kept_for_more_requests(kubelet: Kubelet) -> None:
    async with asyncio.timeout(20), kubelet.connect() as (reader, writer):
        for _ in range(5):
            writer.write(GOOD)
            assert (await read_head(reader)).status == 200
            assert await reader.readexactly(2) == b"ok"


SMUGGLED = b"GET /metrics HTTP/1.1\r\nHost: k\r\n\r\n"
BODY = b"0\r\n\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /exec/default/web/app HTTP/1.1\r\nHost: k\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        + BODY,
        b"POST /pods HTTP/1.1\r\nHost: k\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + BODY,
        b"POST /pods HTTP/1.1\r\nHost: k\r\nTransfer-Encoding: chunked123\r\n\r\n" + BODY,
        b"POST /pods HTTP/1.1\r\nHost: k\r\nTransfer-Encoding: xchunked\r\n\r\n" + BODY,
        b"POST /pods HTTP/1.1\nHost: k\n\n",
        b"GET /pods HTTP/1.1\r\nHost: k\r\nX-A: b\r\n folded\r\n\r\n",
        b"POST /pods HTTP/1.1\r\nHost: k\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /pods HTTP/1.1\r\nHost: k\r\nContent-Length: +5\r\n\r\nhello",
        b"POST /pods HTTP/1.1\r\nHost: k\r\nContent-Length: 0x5\r\n\r\nhello",
        "POST /pods HTTP/1.1\r\nHost: k\r\nContent-Length: \u0665\r\n\r\nhello".encode(),
        b"GET /pods HTTP/1.1\r\nHost: k\r\nX-A : b\r\n\r\n",
        b"GET /pods HTTP/1.1\r\nHost: k\r\nX-A\x00: b\r\n\r\n",
        b"GET /pods HTTP/1.1\r\nHost: k\r\nX-A: b\rc\r\n\r\n",
        b"GET /pods HTTP/9.9\r\nHost: k\r\n\r\n",
        b"\x16\x03\x01 nonsense\r\n\r\n",
    ],
)
async def test_a13_ambiguous_requests_end_the_connection(kubelet: Kubelet, raw: bytes) -> None:
    """The second request behind such a one is never answered, and nothing is forwarded."""
    async with asyncio.timeout(20), kubelet.connect() as (reader, writer):
        writer.write(raw + SMUGGLED)
        answered = b""
        with contextlib.suppress(ConnectionError):
            answered = await reader.read()
    assert len(re.findall(rb"^HTTP/1\.[01] ", answered, re.MULTILINE)) == 1
    assert answered.split()[1] == b"400"
    assert b"python_info" not in answered
    assert kubelet.provider.heads == []


@pytest.mark.parametrize(
    "body", [b"5;a=\nb\r\nhello\r\n0\r\n\r\n", b"5\nhello\r\n0\r\n\r\n", b"g\r\nhello\r\n0\r\n\r\n"]
)
async def test_a13_malformed_chunks_end_the_connection(kubelet: Kubelet, body: bytes) -> None:
    head = b"POST /pods HTTP/1.1\r\nHost: k\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with asyncio.timeout(20), kubelet.connect() as (reader, writer):
        writer.write(head + body + SMUGGLED)
        answered = b""
        with contextlib.suppress(ConnectionError):
            answered = await reader.read()
    assert answered.count(b"HTTP/1.") <= 1
    assert b"python_info" not in answered


async def test_a13_a_stream_request_with_a_body_is_refused(kubelet: Kubelet) -> None:
    lines = ["POST /exec/default/web/app?command=id&output=1 HTTP/1.1", "Host: k", *(f"{k}: {v}" for k, v in SPDY)]
    for more, body in (("Content-Length: 4", b"evil"), ("Transfer-Encoding: chunked", b"4\r\nevil\r\n0\r\n\r\n")):
        answer = await kubelet.send("\r\n".join([*lines, more, "", ""]).encode() + body)
        assert answer.status == 400
    assert kubelet.provider.heads == []


def test_a13_only_the_strict_parser_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    require_c_parser()
    monkeypatch.setattr(http_parser, "HttpRequestParser", http_parser.HttpRequestParserPy)
    with pytest.raises(RuntimeError, match="C parser"):
        require_c_parser()


async def test_http2_is_not_offered(kubelet: Kubelet) -> None:
    tls = kubelet.pki.client()
    tls.set_alpn_protocols(["h2", "http/1.1"])
    async with kubelet.connect(tls) as (_, writer):
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"


async def test_old_tls_is_refused(kubelet: Kubelet) -> None:
    tls = kubelet.pki.client()
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    assert (await kubelet.ask("/pods", tls=tls)).status == 401


async def test_a_new_serving_certificate_is_used_for_new_connections(start: Start) -> None:
    async with start(reload_interval=0.05) as kubelet, kubelet.connect() as (reader, writer):

        async def serial() -> str:
            async with kubelet.connect() as (_, other):
                return str(other.get_extra_info("peercert")["serialNumber"])

        before = await serial()
        kubelet.pki.write("serving", kubelet.pki.ca.issue_cert("localhost"))
        async with asyncio.timeout(20):
            while await serial() == before:
                pass
        writer.write(GOOD)
        assert (await read_head(reader)).status == 200


async def test_a_broken_certificate_file_changes_nothing(start: Start) -> None:
    async with start(reload_interval=3600.0) as kubelet:
        (kubelet.pki.directory / "serving.crt").write_text("broken")
        with pytest.raises(ssl.SSLError):
            await kubelet.server.reload()
        assert (await kubelet.ask("/healthz")).status == 200


async def test_without_a_certificate_it_does_not_start(tmp_path: Path, kubelet: Kubelet) -> None:
    config = ServerConfig(node_name=NODE, certificate_file=tmp_path / "no.crt", key_file=tmp_path / "no.key", port=0)
    server = KubeletServer(
        config,
        locator=kubelet.pods,
        stats_source=kubelet.pods,
        consumer=kubelet.client,
        provider=kubelet.client,
        registry=CollectorRegistry(),
    )
    with pytest.raises(OSError, match=r"no\.crt"):
        await server.run()


async def test_stopping_cuts_streams_and_leaves_no_connection(start: Start) -> None:
    async with start() as kubelet, contextlib.AsyncExitStack() as stack:
        reader, writer = await stack.enter_async_context(kubelet.connect())
        lines = ["POST /exec/default/web/app?command=sh&output=1 HTTP/1.1", "Host: k", *(f"{k}: {v}" for k, v in SPDY)]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        assert (await read_head(reader)).status == 101
        async with asyncio.timeout(10):
            await kubelet.stop()
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        await eventually(lambda: not kubelet.provider.open)
        with pytest.raises(ConnectionRefusedError):
            await kubelet.ask("/healthz")


async def test_a_bug_of_ours_is_a_500_without_details(kubelet: Kubelet, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(kubelet.pods, "locate", broken)
    answer = await kubelet.ask("/containerLogs/default/web/app")
    assert (answer.status, answer.text) == (500, "internal error")
