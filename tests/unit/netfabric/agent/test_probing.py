"""Probes over loopback: what passes, what does not, and what a path's record says."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_address

import pytest

from netfabric.agent.model import ProbeTarget
from netfabric.agent.probing import Measured, Path, Responder

HERE = ip_address("127.0.0.1")


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def port() -> AsyncIterator[int]:
    responder, number = Responder(), free_port()
    await responder.answer_at({(HERE, number)})
    yield number
    responder.close()
    await asyncio.sleep(0)


async def test_a_probe_is_answered_in_its_own_size(port: int) -> None:
    async with Path.open(HERE, port, source=None) as path:
        assert await path.probe(timeout=5) is not None
        assert await path.probe(size=9000, timeout=5) is not None
        assert await path.mtu(timeout=5) == 65535


async def test_nobody_there_is_no_answer_and_a_reason() -> None:
    async with Path.open(HERE, free_port(), source=None) as path:
        assert await path.probe(timeout=0.5) is None
        assert await path.probe(timeout=0.5) is None
        assert "refused" in path.error.lower()


async def test_only_requests_are_answered(port: int) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.connect(("127.0.0.1", port))
        for data in (b"", b"x" * 100, b"isthmus-probe-1a" + bytes(20), b"isthmus-probe-1q"):
            sender.send(data)
        sender.send(b"isthmus-probe-1q" + b"n" * 8)
        async with asyncio.timeout(5):
            assert await loop.sock_recv(sender, 100) == b"isthmus-probe-1a" + b"n" * 8
        with pytest.raises(BlockingIOError):
            sender.recv(100)


async def test_a_responder_follows_what_it_is_told() -> None:
    responder, one, two = Responder(), (HERE, free_port()), (HERE, free_port())
    await responder.answer_at({one, (ip_address("203.0.113.7"), 9)})
    assert responder.addresses == {one}, "an address that is not ours yet is tried again later"
    await responder.answer_at({two})
    assert responder.addresses == {two}
    responder.close()
    await asyncio.sleep(0)


def test_a_path_is_broken_after_so_many_lost_in_a_row_and_passes_again_at_once() -> None:
    measured = Measured(ProbeTarget(name="x", address=HERE, port=1, lost_after=3))
    assert measured.record(0.001) is True
    assert [measured.record(None) for _ in range(3)] == [False, False, True]
    assert not measured.passing
    assert measured.loss == 0.75
    assert measured.record(0.003) is True
    assert (measured.passing, measured.lost, measured.latency) == (True, 0, 0.003)
    assert 0.001 < measured.smoothed < 0.003
