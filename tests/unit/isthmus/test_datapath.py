"""From what a probe says to what a Node is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from isthmus.datapath import SILENT_SECONDS, Probed
from isthmus.peered import Peered
from netfabric._pb import fabric_pb2 as pb
from netfabric.agent.agent import Agent
from netfabric.agent.service import FabricServer
from tests.unit.vk_node.tasks import until
from vk.node.clock import Clock


class Network:
    """Stands for a NetworkPeering: says whom to ask."""

    def __init__(self, *probed: str) -> None:
        self.probed = probed

    def subscribe(self, changed: Any) -> None:
        self.changed = changed


class Probe:
    """Stands for a probe: says what it is told to of each path."""

    def __init__(self) -> None:
        self.told: list[pb.DesiredState] = []
        self.passing, self.settled, self.full_size_lost = True, True, False
        self.server: asyncio.Task[None] | None = None

    async def apply(self, message: pb.DesiredState) -> pb.AppliedState:
        self.told.append(message)
        return pb.AppliedState(term=message.term, generation=message.generation)

    async def states(self, *, interval: float) -> AsyncIterator[pb.AgentState]:
        while True:
            state = pb.AgentState(contract=1, agent="vk", role=pb.ROLE_PROBE)
            if self.told:
                last = self.told[-1]
                state.applied.CopyFrom(pb.AppliedState(term=last.term, generation=last.generation))
                for target in last.probes:
                    said = pb.ProbeState(name=target.name, passing=self.passing, settled=self.settled)
                    said.full_size_lost = self.full_size_lost
                    state.probes.append(said)
            yield state
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(network: Network, probe: Probe | None, folder: Path, clock: list[float]) -> AsyncIterator[Probed]:
    """Who tells, beside a probe or none."""
    listen = f"unix:{folder}/s/fabric.sock"
    made = Probed(
        cast(Peered, network),
        socket=listen,
        node="vk",
        peering="north",
        own=("10.244.1.9",),
        clock=Clock(monotonic=lambda: clock[0]),
    )
    tasks = [asyncio.create_task(made.run())]
    if probe is not None:
        probe.server = asyncio.create_task(FabricServer(cast(Agent, probe), listen=listen).run())
        tasks.append(probe.server)
    try:
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def said(made: Probed) -> tuple[str, str]:
    """Status and reason."""
    known = made.data_path.condition
    return (known.status, known.reason) if known is not None else ("", "")


async def test_a_probe_is_asked_in_the_pods_own_family_and_its_word_is_the_nodes(tmp_path: Path) -> None:
    probe = Probe()
    async with running(Network("100.64.0.0", "fd69::"), probe, tmp_path, [0.0]) as made:
        await until(lambda: said(made)[1] == "PathPasses")
        (target,) = probe.told[-1].probes
        assert (target.address, target.port, target.peer) == ("100.64.0.0", 6092, "north")
        probe.passing = False
        await until(lambda: said(made)[1] == "PathBroken")
        probe.passing, probe.full_size_lost = True, True
        await until(lambda: said(made)[1] == "FullSizePacketsLost")


async def test_another_address_is_asked_when_the_plan_says_so(tmp_path: Path) -> None:
    probe, network = Probe(), Network("100.64.0.0")
    async with running(network, probe, tmp_path, [0.0]) as made:
        await until(lambda: said(made)[1] == "PathPasses")
        network.probed = ("100.65.0.0",)
        network.changed()
        await until(lambda: probe.told[-1].probes[0].address == "100.65.0.0")


async def test_nobody_is_accused_where_nobody_is_asked(tmp_path: Path) -> None:
    async with running(Network("fd69::"), None, tmp_path, [0.0]) as made:
        await until(lambda: said(made)[1] == "NotMeasured")
        assert said(made)[0] == "Unknown"
        assert made.data_path.condition is not None
        assert "probeAddresses" in made.data_path.condition.message


async def test_a_probe_that_is_silent_for_long_leaves_it_unknown(tmp_path: Path) -> None:
    clock = [0.0]
    async with running(Network("100.64.0.0"), None, tmp_path, clock) as made:
        clock[0] = SILENT_SECONDS - 1
        made.data_path.tell(made.report())
        assert said(made) == ("", ""), "it may be starting"
        clock[0] = SILENT_SECONDS
        made.data_path.tell(made.report())
        assert said(made) == ("Unknown", "ProbeSilent")


async def test_what_a_probe_said_that_is_gone_does_not_count(tmp_path: Path) -> None:
    probe, clock = Probe(), [0.0]
    async with running(Network("100.64.0.0"), probe, tmp_path, clock) as made:
        await until(lambda: said(made)[1] == "PathPasses")
        assert probe.server is not None
        probe.server.cancel()
        await until(lambda: not made.report().paths)
        assert said(made)[1] == "PathPasses", "it may be starting anew"
        clock[0] = SILENT_SECONDS
        await until(lambda: said(made)[1] == "ProbeSilent")


async def test_a_probe_that_is_finding_out_changes_nothing(tmp_path: Path) -> None:
    probe = Probe()
    async with running(Network("100.64.0.0"), probe, tmp_path, [0.0]) as made:
        await until(lambda: said(made)[1] == "PathPasses")
        probe.passing = probe.settled = False
        await until(lambda: any(not path.settled for path in made.report().paths))
        assert said(made) == ("False", "PathPasses")
