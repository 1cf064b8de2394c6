"""Connections to agents: each is told the newest state it shall have, and tells what is the case.

One task an agent reads its stream, another sends. Only the newest state is ever sent, one at a time, and few agents at
once, so a slow or deaf one holds up nobody and nothing piles up. An agent that restarts or was away is sent its state
again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import structlog
from grpc import aio

from kube.backoff import Backoff
from kube.together import until_one_ends
from netfabric._pb import fabric_pb2 as pb
from netfabric._pb import fabric_pb2_grpc as rpc
from netfabric.controller.authority import Credential
from netfabric.controller.certificates import NAMES
from netfabric.controller.facts import Agent

log = structlog.get_logger(__name__)

AT_ONCE = 16
APPLY_SECONDS = 30.0
RETRY_SECONDS = 15.0
"""After a state was refused it is sent again, in case the agent has been mended."""
_MOST_BYTES = 16 * 1024 * 1024
_ROLES = {"gateway": pb.ROLE_GATEWAY, "node": pb.ROLE_NODE, "probe": pb.ROLE_PROBE}
_REFUSALS = frozenset(
    {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNIMPLEMENTED}
)


class StrangerError(Exception):
    """Whoever answers is not the agent that was called."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often an agent of a role speaks, and after how long a silence it counts as gone; seconds."""

    interval: int
    silence: float


RHYTHMS = {"gateway": Rhythm(1, 2.5), "node": Rhythm(5, 16.0)}
"""Another gateway takes over within 3 s, so their silence is noticed sooner."""


class AgentConnection:
    """One agent. `changed` is called in the event loop whenever something is heard of it; `check` raises unless we may
    write, and then nothing is sent."""

    def __init__(
        self,
        agent: Agent,
        *,
        target: str,
        credential: Callable[[], Credential | None],
        changed: Callable[[AgentConnection], None],
        slots: asyncio.Semaphore,
        check: Callable[[], None] = lambda: None,
        rhythm: Rhythm | None = None,
    ) -> None:
        self.name = agent.name
        self.role = agent.role
        self.target = target
        self.state: pb.AgentState | None = None
        """The last that was heard; kept when the connection breaks."""
        self.connected = False
        self.problem = ""
        """Why it is not connected, or refused its state."""
        self.refused = False
        self.sent: tuple[int, int] = (0, 0)
        """Term and generation that it was told last."""
        self._credential = credential
        self._changed = changed
        self._slots = slots
        self._check = check
        self._rhythm = rhythm or RHYTHMS[agent.role]
        self._wanted: pb.DesiredState | None = None
        self._bytes = b""
        self._generation = 0
        self._news = asyncio.Event()
        self._heard = asyncio.Event()
        self._backoff = Backoff(base=0.2, maximum=5.0)

    @property
    def capabilities(self) -> frozenset[str]:
        """What it can do; empty before it was heard."""
        return frozenset(self.state.capabilities) if self.state is not None else frozenset()

    @property
    def current(self) -> bool:
        """Whether it has applied what it shall have."""
        if self.state is None or self._wanted is None:
            return False
        applied = self.state.applied
        return (applied.term, applied.generation) == (self._wanted.term, self._wanted.generation)

    @property
    def settled(self) -> bool:
        """Whether it also has all of that in its kernel, and nothing else."""
        return self.current and self.state is not None and not self.state.applied.problems

    def want(self, state: pb.DesiredState, *, term: int) -> None:
        """Have it apply this state; nothing is sent if it is what it was told before."""
        encoded = state.SerializeToString(deterministic=True)
        if encoded == self._bytes and self._wanted is not None and self._wanted.term == term:
            return
        self._generation += 1
        self._bytes = encoded
        self._wanted = pb.DesiredState()
        self._wanted.CopyFrom(state)
        self._wanted.term, self._wanted.generation = term, self._generation
        self._news.set()

    async def run(self) -> None:
        """Until cancelled: connect, and again."""
        while True:
            try:
                async with self._channel() as channel:
                    await self._session(rpc.FabricAgentStub(channel))
            except (aio.AioRpcError, TimeoutError, StrangerError, OSError, ValueError) as error:
                self._lost(_words(error, self.target))
            await asyncio.sleep(self._backoff.next())

    @asynccontextmanager
    async def _channel(self) -> AsyncIterator[aio.Channel]:
        options = [
            ("grpc.max_receive_message_length", _MOST_BYTES),
            ("grpc.max_send_message_length", _MOST_BYTES),
            ("grpc.enable_retries", 0),
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ]
        if self.target.startswith("unix:"):
            async with aio.insecure_channel(self.target, options=options) as channel:
                yield channel
            return
        credential = self._credential()
        if credential is None:
            raise ValueError("the controller has no certificate yet")
        secured = grpc.ssl_channel_credentials(credential.ca, credential.key, credential.certificate)
        options.append(("grpc.ssl_target_name_override", NAMES[self.role]))  # type: ignore[arg-type] # values of two types
        async with aio.secure_channel(self.target, secured, options=options) as channel:
            yield channel

    async def _session(self, stub: rpc.FabricAgentAsyncStub) -> None:
        self._heard.clear()
        self._news.set()  # whoever connects anew may have nothing
        await until_one_ends(self._read(stub), self._send(stub))

    async def _read(self, stub: rpc.FabricAgentAsyncStub) -> None:
        call = stub.Watch(pb.WatchRequest(interval_seconds=self._rhythm.interval))
        try:
            while True:
                async with asyncio.timeout(self._rhythm.silence):
                    state = await call.read()
                if not isinstance(state, pb.AgentState):
                    raise TimeoutError("the agent ended its stream")
                self._take(state)
        finally:
            call.cancel()

    def _take(self, state: pb.AgentState) -> None:
        if state.agent != self.name or state.role != _ROLES[self.role]:
            raise StrangerError(f"agent {state.agent!r} of role {state.role} answers instead of {self.name!r}")
        if self.connected:
            self._backoff.reset()  # not at the first word: F7
        self.state, self.connected = state, True
        if not self.refused:
            self.problem = ""
        self._heard.set()
        self._changed(self)

    async def _send(self, stub: rpc.FabricAgentAsyncStub) -> None:
        await self._heard.wait()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_SECONDS if self.refused else None):
                    await self._news.wait()
            self._news.clear()
            if self._wanted is None:
                continue
            async with self._slots:
                await self._apply(stub, self._wanted)

    def _outgrow(self, wanted: pb.DesiredState) -> None:
        """Go on from what the agent has of this term by a process before this one."""
        applied = self.state.applied if self.state is not None else pb.AppliedState()
        foreign = self.sent != (applied.term, applied.generation)
        if foreign and applied.term == wanted.term and applied.generation >= wanted.generation:
            self._generation = wanted.generation = applied.generation + 1

    async def _apply(self, stub: rpc.FabricAgentAsyncStub, wanted: pb.DesiredState) -> None:
        self._outgrow(wanted)
        self._check()
        try:
            applied = await stub.Apply(wanted, timeout=APPLY_SECONDS)
        except aio.AioRpcError as error:
            if error.code() not in _REFUSALS:
                raise
            self.refused, self.problem = True, f"refused its state: {error.details()}"
            log.error("agent refused its state", agent=self.name, error=error.details(), generation=wanted.generation)
        else:
            self.refused, self.problem = False, ""
            self.sent = (wanted.term, wanted.generation)
            if self.state is not None:
                self.state.applied.CopyFrom(applied)
        self._changed(self)

    def _lost(self, why: str) -> None:
        if self.connected or why != self.problem:
            log.warning("agent not reached", agent=self.name, role=self.role, target=self.target, error=why)
        self.connected, self.problem = False, why
        self._changed(self)


def _words(error: BaseException, target: str) -> str:
    if isinstance(error, aio.AioRpcError):
        return f"{target}: {error.code().name}: {error.details()}"[:300]
    if isinstance(error, TimeoutError):
        return f"{target}: {error or 'silent'}"
    return f"{target}: {error}"[:300]


class AgentPool:
    """All connections. `run` owns their tasks; `keep` may be called before and while it runs."""

    def __init__(
        self,
        *,
        target: Callable[[Agent], str],
        credential: Callable[[], Credential | None],
        changed: Callable[[AgentConnection], None],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.connections: dict[tuple[str, str], AgentConnection] = {}
        """By role and name."""
        self._target = target
        self._credential = credential
        self._changed = changed
        self._check = check
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: dict[AgentConnection, asyncio.Task[None]] = {}
        self._moved = asyncio.Event()

    def keep(self, agents: Iterable[Agent]) -> None:
        """Be connected to these agents and no others."""
        wanted = {(agent.role, agent.name): (agent, self._target(agent)) for agent in agents}
        for key, connection in list(self.connections.items()):
            if key not in wanted or wanted[key][1] != connection.target:
                del self.connections[key]
        for key, (agent, target) in wanted.items():
            if key not in self.connections:
                self.connections[key] = AgentConnection(
                    agent,
                    target=target,
                    credential=self._credential,
                    changed=self._changed,
                    slots=self._slots,
                    check=self._check,
                )
        self._moved.set()

    async def run(self) -> None:
        """Until cancelled. A connection that fails for a bug of ours ends this."""
        async with asyncio.TaskGroup() as group:
            while True:
                wanted = set(self.connections.values())
                for gone in self._tasks.keys() - wanted:
                    self._tasks.pop(gone).cancel()
                for new in wanted - self._tasks.keys():
                    self._tasks[new] = group.create_task(new.run(), name=f"agent/{new.role}/{new.name}")
                self._moved.clear()
                await self._moved.wait()
