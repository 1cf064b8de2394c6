"""An agent that only measures has no right over the kernel, and asks it for nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from netfabric._pb import fabric_pb2 as pb
from netfabric.agent import changes, programs, reading
from netfabric.agent.agent import Agent, AgentSettings
from netfabric.agent.model import Role
from netfabric.agent.netlink import Netlink
from netfabric.controller import sidecar


async def test_it_measures_without_a_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*_: object, **__: object) -> None:
        raise AssertionError("a probe asked for what needs a right")

    for owner, name in ((programs, "run"), (Netlink, "dump"), (Netlink, "abilities"), (Netlink, "carry_out")):
        monkeypatch.setattr(owner, name, refused)
    monkeypatch.setattr(changes, "watch", refused)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        wanted = pb.DesiredState(contract=1, agent="vk", term=1, generation=1, role=pb.ROLE_PROBE)
        wanted.probes.add(name="x", address="127.0.0.1", port=deaf.getsockname()[1], lost_after=1)
        settings = AgentSettings(name="vk", role=Role.PROBE, state_directory=tmp_path)
        async with Agent.start(settings) as agent, running(agent):
            applied = await agent.apply(wanted)
            assert not applied.problems
            async with asyncio.timeout(20):
                async for state in agent.states(interval=1):
                    if state.probes and state.probes[0].settled:
                        break
            assert not state.probes[0].passing
        async with Agent.start(settings) as again, running(again):
            async with asyncio.timeout(20):
                async for state in again.states(interval=1):
                    if state.probes:
                        break
            assert state.applied.generation == 1, "what it was told before a restart is measured at once"
            assert await again.clean() == []


@asynccontextmanager
async def running(agent: Agent) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(part()) for _, part in agent.parts()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def test_what_a_virtual_kubelet_tells_it_is_taken() -> None:
    wanted = sidecar.state("vk", "north", ["100.64.0.0", "fd69::"])
    desired = reading.read(wanted)
    assert [probe.name for probe in desired.probes] == ["north-ipv4", "north-ipv6"]
    assert {(probe.lost_after, probe.passing_after, probe.full_size_every) for probe in desired.probes} == {(6, 3, 2)}
