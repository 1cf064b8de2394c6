"""run, and the WebSocket reading it needs."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.vk_server.conftest import Kubelet
from tests.unit.vk_server.wire import Head, Script, paced, switching
from vk.server.channels import ChannelReader, FramingError, closing_frame

SUCCESS = msgspec.json.encode({"kind": "Status", "status": "Success"})


def frame(payload: bytes, *, opcode: int = 2, final: bool = True) -> bytes:
    size = len(payload)
    if size < 126:
        length = bytes([size])
    elif size < 2**16:
        length = b"\x7e" + size.to_bytes(2, "big")
    else:
        length = b"\x7f" + size.to_bytes(8, "big")
    return bytes([(0x80 if final else 0) | opcode]) + length + payload


def output(*messages: tuple[int, bytes]) -> Script:
    async def script(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(switching(head) + b"".join(frame(bytes([channel]) + data) for channel, data in messages))
        writer.write(frame(b"\x03\xe8", opcode=8))
        await reader.read()

    return script


async def test_output_becomes_the_body(kubelet: Kubelet) -> None:
    kubelet.provider.script = output((1, b""), (1, b"hello "), (2, b"oops"), (1, b"world"), (3, SUCCESS))
    answer = await kubelet.ask("/run/default/web/app?cmd=echo+hello+world", method="POST")
    assert (answer.status, answer.body) == (200, b"hello worldoops")
    sent = kubelet.provider.heads[0]
    assert sent.query == [
        ("container", "app"),
        ("command", "echo"),
        ("command", "hello"),
        ("command", "world"),
        ("stdout", "true"),
        ("stderr", "true"),
    ]
    assert sent.one("Sec-WebSocket-Protocol") == "v5.channel.k8s.io, v4.channel.k8s.io"


async def test_a_failing_command_says_how(kubelet: Kubelet) -> None:
    causes = [{"reason": "ExitCode", "message": "7"}]
    status = {"kind": "Status", "status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}
    kubelet.provider.script = output((2, b"no such file"), (3, msgspec.json.encode(status)))
    answer = await kubelet.ask("/run/default/web/app?cmd=cat+x", method="POST")
    assert (answer.status, answer.text) == (500, "command 'cat x' exited with 7: no such file")


async def test_other_failures(kubelet: Kubelet) -> None:
    failed = {"kind": "Status", "status": "Failure", "message": "container gone \x1b[1m"}
    kubelet.provider.script = output((3, msgspec.json.encode(failed)))
    answer = await kubelet.ask("/run/default/web/app?cmd=x", method="POST")
    assert (answer.status, answer.text) == (500, "container gone \\x1b[1m")
    kubelet.provider.script = output((1, b"cut"))
    assert (await kubelet.ask("/run/default/web/app?cmd=x", method="POST")).status == 500

    async def refuse(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'HTTP/1.1 403 No\r\nContent-Length: 35\r\n\r\n{"kind":"Status","message":"never!"}')
        await reader.read()

    kubelet.provider.script = refuse
    assert (await kubelet.ask("/run/default/web/app?cmd=x", method="POST")).status == 403
    assert (await kubelet.ask("/run/default/other/app?cmd=x", method="POST")).status == 404


async def test_endless_output_is_cut_off(kubelet: Kubelet) -> None:
    async def endless(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(switching(head))
        while True:
            writer.write(frame(b"\x01" + bytes(500_000)))
            await paced(writer)

    kubelet.provider.script = endless
    answer = await kubelet.ask("/run/default/web/app?cmd=yes", method="POST")
    assert answer.status == 500
    assert "wrote more than" in answer.text


@given(messages=st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=300)), max_size=8), data=st.data())
def test_messages_are_found_however_the_bytes_are_cut(messages: list[tuple[int, bytes]], data: st.DataObject) -> None:
    raw = b"".join(frame(bytes([channel]) + payload) for channel, payload in messages) + frame(b"", opcode=8)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    reader, found = ChannelReader(), []
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        found += list(reader.feed(raw[start:end]))
    assert found == messages
    assert reader.closed


def test_fragments_and_control_frames_between_them() -> None:
    raw = frame(b"\x01a", final=False) + frame(b"ping", opcode=9) + frame(b"b", opcode=0)
    assert list(ChannelReader().feed(raw)) == [(1, b"ab")]
    assert list(ChannelReader().feed(frame(b"\x01" + bytes(70_000)))) == [(1, bytes(70_000))]


@pytest.mark.parametrize(
    "raw",
    [
        b"\x82\x81",
        b"\xc2\x00",
        b"\x83\x00",
        frame(b"x", opcode=0),
        frame(b"\x01a", final=False) + frame(b"\x01b"),
        b"\x82\x7f" + (2**62).to_bytes(8, "big"),
    ],
)
def test_a17_what_a_server_never_sends(raw: bytes) -> None:
    with pytest.raises(FramingError):
        list(ChannelReader().feed(raw))


@given(st.binary(max_size=200))
def test_a17_any_bytes_end_in_a_known_way(raw: bytes) -> None:
    try:
        for _ in ChannelReader().feed(raw):
            pass
    except FramingError:
        return


def test_the_closing_frame_is_masked() -> None:
    raw = closing_frame()
    assert raw[:2] == b"\x88\x82"
    assert bytes(b ^ raw[2 + i % 4] for i, b in enumerate(raw[6:])) == (1000).to_bytes(2, "big")
