import asyncio

import pytest

from kube.client import Client, Upgrade
from kube.errors import ProtocolError, TransportError
from tests.unit.kube import fakeapi, rawserver

UPGRADE = [("Upgrade", "SPDY/3.1")]
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\nConnection: Upgrade\r\n\r\n"


async def _open(url: str, *, headers: list[tuple[str, str]] | None = None, timeout: float = 5.0) -> Upgrade:
    async with Client.connect(fakeapi.credentials(url, token="t0k"), name="t") as client:
        return await client.upgrade(
            "POST",
            "/api/v1/namespaces/n/pods/p/exec",
            params=[("command", "a b"), ("command", "c&d")],
            headers=headers if headers is not None else UPGRADE,
            timeout=timeout,
        )


async def test_bytes_after_the_head_are_not_lost_and_both_directions_work() -> None:
    async def answer(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SWITCHING + b"early")
        writer.write(await reader.readexactly(4))

    async with rawserver.serving(answer) as server:
        upgraded = await _open(server.url, headers=[*UPGRADE, ("X-Stream-Protocol-Version", "v4.channel.k8s.io")])
        assert upgraded.status == 101
        assert upgraded.head == SWITCHING
        assert upgraded.header("upgrade") == "SPDY/3.1"
        upgraded.writer.write(b"ping")
        assert await upgraded.reader.read(-1) == b"earlyping"
        await upgraded.aclose()
        await upgraded.aclose()
    lines = server.heads[0].split(b"\r\n")
    assert lines[0] == b"POST /api/v1/namespaces/n/pods/p/exec?command=a+b&command=c%26d HTTP/1.1"
    for line in (b"Authorization: Bearer t0k", b"Connection: Upgrade", b"X-Stream-Protocol-Version: v4.channel.k8s.io"):
        assert lines.count(line) == 1


async def test_a14_identity_and_hop_headers_of_the_caller_never_travel() -> None:
    evil = [
        ("Authorization", "Bearer evil"),
        ("connection", "Authorization, evil"),
        ("Impersonate-User", "evil"),
        ("X-Remote-User", "evil"),
        ("X-Forwarded-For", "evil"),
        ("X-Forwarded-Client-Cert", "evil"),
        ("Cookie", "evil"),
        ("Host", "evil"),
        ("Transfer-Encoding", "evil"),
        ("Content-Length", "666"),
        ("Proxy-Authorization", "evil"),
    ]
    async with rawserver.serving(SWITCHING) as server:
        await (await _open(server.url, headers=[*UPGRADE, *evil])).aclose()
    assert b"evil" not in server.heads[0]
    assert b"666" not in server.heads[0]


@pytest.mark.parametrize(
    "header", [("X", "a\r\nY: b"), ("X\r\nY", "a"), ("X", "a\0"), ("X Y", "a"), ("", "a"), ("X", "é"), ("X", "a\nb")]
)
async def test_a13_headers_cannot_be_split(header: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="not a valid header"):
        await _open("http://127.0.0.1:1", headers=[*UPGRADE, header])


async def test_an_upgrade_needs_an_upgrade_header() -> None:
    with pytest.raises(ValueError, match="Upgrade header"):
        await _open("http://127.0.0.1:1", headers=[])


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\ndeniedrest", b"denied"),
        (b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", b"abcde"),
        (b"HTTP/1.1 307 X\r\nLocation: http://169.254.169.254/\r\n\r\n", b""),
        (b"HTTP/1.1 400 X\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.1 400 X\r\nContent-Length: 100\r\n\r\ncut", b"cut"),
        (b"HTTP/1.1 400 X\r\nContent-Length: 999999\r\n\r\n" + b"x" * 2000, b"x" * 1000),
        (b"HTTP/1.1 400 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 X\r\nContent-Length: 1\r\n\r\na", b"a"),
    ],
)
async def test_a16_other_answers_are_given_with_their_body_and_not_followed(answer: bytes, body: bytes) -> None:
    async with rawserver.serving(answer) as server:
        upgraded = await _open(server.url)
        assert upgraded.status >= 300
        assert await upgraded.read_body(1000) == body
        await upgraded.aclose()
    assert len(server.heads) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 101 X\r\n\r\n",
        b"HTTP/1.1 1010 X\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 101 X\r\nno colon\r\n\r\n",
        b"HTTP/1.1 101 X\r\n folded: x\r\n\r\n",
        b"HTTP/1.1 101 X\r\na: b\nc: d\r\n\r\n",
        b"HTTP/1.1 101 X\r\nA: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 101 X\r\nA: " + b"x" * 400_000,
        b"HTTP/1.1 100 X\r\n\r\n" * 10,
    ],
)
async def test_malformed_heads_are_refused(answer: bytes) -> None:
    async with rawserver.serving(answer) as server:
        with pytest.raises(ProtocolError):
            await _open(server.url)


async def test_no_answer_in_time_and_a_closed_connection() -> None:
    async def silent(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with rawserver.serving(silent) as server:
        with pytest.raises(TransportError) as caught:
            await _open(server.url, timeout=0.1)
        assert caught.value.sent
    async with rawserver.serving(b"HTTP/1.1 101") as server:
        with pytest.raises(TransportError):
            await _open(server.url)
    with pytest.raises(TransportError) as refused:
        await _open(server.url)
    assert not refused.value.sent


async def test_401_is_tried_once_more() -> None:
    async with rawserver.serving(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n") as server:
        upgraded = await _open(server.url)
        assert upgraded.status == 401
        await upgraded.aclose()
    assert len(server.heads) == 2
