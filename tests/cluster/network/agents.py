"""Agents as a controller meets them: real gRPC servers whose kernel is a list of what they were told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from netfabric._pb import fabric_pb2 as pb
from netfabric._pb import fabric_pb2_grpc as rpc


@dataclass
class ScriptedAgent(rpc.FabricAgentServicer):
    """One agent. Paths answer unless the test says otherwise."""

    name: str
    role: str
    capabilities: tuple[str, ...] = ("geneve", "vxlan", "wireguard-kernel")
    told: list[pb.DesiredState] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    """Names of probes that fail."""
    refuse: str = ""
    problems: list[pb.Problem] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def state(self) -> pb.DesiredState:
        """What it has."""
        return self.told[-1] if self.told else pb.DesiredState()

    def poke(self) -> None:
        """Tell the controller now."""
        self.changed.set()

    async def Apply(self, request: pb.DesiredState, context: Any) -> pb.AppliedState:  # noqa: N802 - gRPC's name
        if self.refuse:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, self.refuse)
        last = (self.state.term, self.state.generation)
        if (request.term, request.generation) < last:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"older than {last}")
        copy = pb.DesiredState()
        copy.CopyFrom(request)
        self.told.append(copy)
        self.poke()
        return self._applied()

    async def Watch(self, request: pb.WatchRequest, context: Any) -> AsyncIterator[pb.AgentState]:  # noqa: N802
        while True:
            self.changed.clear()
            yield self._state()
            try:
                async with asyncio.timeout(request.interval_seconds / 2):
                    await self.changed.wait()
            except TimeoutError:
                pass

    async def Probe(self, request: pb.ProbeRequest, context: Any) -> pb.ProbeResult:  # noqa: N802
        return pb.ProbeResult(passing=True)

    def _applied(self) -> pb.AppliedState:
        return pb.AppliedState(term=self.state.term, generation=self.state.generation, problems=self.problems)

    def _state(self) -> pb.AgentState:
        role = pb.ROLE_GATEWAY if self.role == "gateway" else pb.ROLE_NODE
        made = pb.AgentState(contract=1, agent=self.name, role=role, capabilities=self.capabilities)
        made.standby = self.state.standby
        made.applied.CopyFrom(self._applied())
        for probe in self.state.probes:
            passing = probe.name not in self.broken
            made.probes.append(pb.ProbeState(name=probe.name, peer=probe.peer, passing=passing))
            made.probes[-1].smoothed_latency_microseconds = 12_345
            made.probes[-1].path_mtu = 1420
        for link in self.state.links:
            made.links.append(
                pb.LinkState(name=link.name, up=True, mtu=link.mtu or 1420, technology="wireguard (kernel)")
            )
            for peer in link.wireguard.peers:
                shown = made.links[-1].wireguard_peers.add(public_key=peer.public_key, endpoint=peer.endpoint)
                if link.name not in self.broken:
                    shown.last_handshake.GetCurrentTime()
        return made


@asynccontextmanager
async def serving(agent: ScriptedAgent, folder: Path) -> AsyncIterator[ScriptedAgent]:
    """The agent at its socket; gone, as a crashed one is, when the block ends."""
    server = grpc.aio.server()
    rpc.add_FabricAgentServicer_to_server(agent, server)
    server.add_insecure_port(f"unix:{folder}/{agent.name}")
    await server.start()
    try:
        yield agent
    finally:
        await server.stop(None)
