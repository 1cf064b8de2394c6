"""Probes over loopback: what passes, what does not, and what a path's record says."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_address

import pytest

from netfabric.agent.answering import Datagrams, Responder
from netfabric.agent.model import ProbeTarget
from netfabric.agent.probing import FULL_SIZE_LOST_AFTER, Measured, Monitor, Path
from tests.unit.vk_node.tasks import until

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


def test_a_path_passes_again_after_so_many_answers_in_a_row() -> None:
    measured = Measured(ProbeTarget(name="x", address=HERE, port=1, lost_after=2, passing_after=3))
    assert [(measured.record(0.001), measured.settled) for _ in range(3)] == [(False, False)] * 2 + [(True, True)]
    assert [measured.record(None) for _ in range(2)] == [False, True]
    for seconds in (0.001, 0.001, None, 0.001, 0.001):
        assert measured.record(seconds) is False
    assert (measured.passing, measured.settled) == (False, True)
    assert measured.record(0.001) is True
    assert measured.passing


def test_what_was_never_answered_is_known_to_be_broken_after_a_while() -> None:
    measured = Measured(ProbeTarget(name="x", address=HERE, port=1, lost_after=2))
    assert [(measured.record(None), measured.settled) for _ in range(2)] == [(False, False), (True, True)]
    assert not measured.passing


def test_large_packets_are_called_lost_after_several_in_a_row_while_small_ones_pass() -> None:
    measured = Measured(ProbeTarget(name="x", address=HERE, port=1, full_size_every=2))
    measured.record(0.001)
    assert measured.record_full_size(1420) is False
    lost = [measured.record_full_size(0) for _ in range(FULL_SIZE_LOST_AFTER)]
    assert lost == [False] * (FULL_SIZE_LOST_AFTER - 1) + [True]
    assert (measured.full_size_lost, measured.path_mtu) == (True, 0)
    assert measured.record_full_size(1420) is True
    assert (measured.full_size_lost, measured.path_mtu) == (False, 1420)


async def test_what_is_too_large_for_the_way_is_no_answer() -> None:
    class Narrow(Datagrams):
        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            if len(data) < 1000:
                super().datagram_received(data, addr)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Narrow, local_addr=("127.0.0.1", 0))
    async with Path.open(HERE, transport.get_extra_info("sockname")[1], source=None) as path:
        assert await path.probe(timeout=5) is not None
        assert await path.full_size(timeout=0.2) == 0
    transport.close()
    await asyncio.sleep(0)


async def test_a_path_is_asked_for_by_a_new_flow_after_each_loss(port: int) -> None:
    """Who answered may be gone, and only a new flow is handed to another one."""
    sources: list[tuple[str, int]] = []

    class Deaf(Datagrams):
        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            sources.append(addr)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Deaf, local_addr=("127.0.0.1", 0))
    number = transport.get_extra_info("sockname")[1]
    monitor = Monitor()
    monitor.measure([ProbeTarget(name="x", address=HERE, port=number, interval=0.1, full_size_every=2)])
    running = asyncio.create_task(monitor.run())
    await until(lambda: len(sources) >= 2)
    running.cancel()
    await asyncio.wait({running})
    transport.close()
    await asyncio.sleep(0)
    assert len(set(sources)) == len(sources)
