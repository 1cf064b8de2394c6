"""An agent: the reconciler, its probes and responders, and what there is to tell about them."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from netfabric._pb import fabric_pb2 as pb
from netfabric.agent import peerchains, reading, reporting, tables, wireguard
from netfabric.agent.answering import Responder
from netfabric.agent.dialling import Redialler
from netfabric.agent.errors import InvalidStateError, KernelError, StaleStateError, UnsupportedError
from netfabric.agent.kernel import Abilities
from netfabric.agent.memory import Memory
from netfabric.agent.model import Address, Desired, Problem, Role
from netfabric.agent.netlink import Netlink
from netfabric.agent.probing import Monitor
from netfabric.agent.probing import Path as ProbePath
from netfabric.agent.reconcile import SYSCTL, Reconciler
from netfabric.agent.tables import Count

log = structlog.get_logger(__name__)

CONTRACT = 1
REFRESH_SECONDS = 5.0
_MOST_PROBES = 20
_NONE = Abilities(wireguard=None, geneve=False, vxlan=False)
"""Of a probe, which makes nothing and may not try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """What an agent is told when it is started."""

    name: str
    role: Role
    state_directory: Path
    sysctl_directory: Path = SYSCTL


class Agent:
    """One agent of one network namespace. Made by `start`."""

    def __init__(self, settings: AgentSettings, netlink: Netlink, reconciler: Reconciler) -> None:
        self.settings = settings
        self._netlink = netlink
        self.reconciler = reconciler
        self._responder = Responder()
        self.monitor = Monitor(on_change=self._verdict)
        self._counts: dict[str, Count] = {}
        self._news = asyncio.Condition()
        self._edition = 0
        self._telling = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def start(cls, settings: AgentSettings) -> AsyncIterator[Agent]:
        """An agent with its last state taken up, not running yet."""
        async with Netlink.connect() as netlink:
            measures_only = settings.role is Role.PROBE
            reconciler = Reconciler(
                netlink,
                Memory(settings.state_directory),
                abilities=_NONE if measures_only else await netlink.abilities(userspace=wireguard.available()),
                measures_only=measures_only,
                sysctl=settings.sysctl_directory,
            )
            agent = cls(settings, netlink, reconciler)
            reconciler.on_pass = agent.passed
            reconciler.measured = lambda: tuple(agent.monitor.measured.values())
            reconciler.restore()
            try:
                yield agent
            finally:
                agent._responder.close()

    def parts(self) -> Iterable[tuple[str, Callable[[], Awaitable[None]]]]:
        """What has to run, by name: each for ever."""
        return (
            ("reconciler", self.reconciler.run),
            ("outer paths", self.reconciler.watch_paths),
            ("probes", self.monitor.run),
            ("redialling", Redialler(self.monitor, self.reconciler).run),
            ("reports", self._report),
        )

    @property
    def capabilities(self) -> list[str]:
        """Features by the names of the contract."""
        if self.settings.role is Role.PROBE:
            return ["probes"]
        abilities = self.reconciler.abilities
        found = ["exports", "transit", "zones"] + ["parallel-links"] * abilities.multipath
        if abilities.wireguard is not None:
            found.append(f"wireguard-{abilities.wireguard.value.replace('-', '')}")
        return sorted(found + ["geneve"] * abilities.geneve + ["vxlan"] * abilities.vxlan)

    async def apply(self, message: pb.DesiredState) -> pb.AppliedState:
        """Have a state. Raises `InvalidStateError`, `StaleStateError`, `UnsupportedError`: the kernel is as it was."""
        if message.contract < 1:
            raise InvalidStateError("contract", "is missing; this agent speaks 1")
        if unknown := sorted(set(message.requires) - set(self.capabilities)):
            raise UnsupportedError(f"requires {', '.join(unknown)}: this agent has {', '.join(self.capabilities)}")
        if message.agent != self.settings.name:
            raise StaleStateError(f"the state is for agent {message.agent!r}, this is {self.settings.name!r}")
        desired = reading.read(message)
        if desired.role is not self.settings.role:
            raise InvalidStateError("role", f"is {desired.role.value}; this agent runs as {self.settings.role.value}")
        applied = await self.reconciler.apply(desired, message.SerializeToString(deterministic=True))
        return reporting.applied_message(applied, repairs=self.reconciler.repairs)

    def passed(self) -> None:
        """A pass is over: probes and responders follow the state."""
        desired = self.reconciler.desired
        self.monitor.measure(desired.probes if desired else ())
        self._tell()

    async def state(self) -> pb.AgentState:
        """All there is to tell, as of now."""
        return reporting.state_message(
            reporting.Snapshot(
                name=self.settings.name,
                role=self.settings.role,
                version=importlib.metadata.version("isthmus"),
                contract=CONTRACT,
                capabilities=tuple(self.capabilities),
                desired=self.reconciler.desired,
                applied=self.reconciler.applied,
                repairs=self.reconciler.repairs,
                wanted=self.reconciler.wanted,
                links=self._netlink.reports,
                wireguard=self.reconciler.wireguard_reports,
                probes=tuple(self.monitor.measured.values()),
                counts=self._counts,
                at=time.time(),
            )
        )

    async def states(self, *, interval: float) -> AsyncIterator[pb.AgentState]:
        """The state now, after changes, and at least every `interval` seconds."""
        seen = -1
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval), self._news:
                    await self._news.wait_for(lambda: self._edition != seen)  # noqa: B023 - awaited at once
            seen = self._edition
            yield await self.state()

    async def probe(self, request: pb.ProbeRequest) -> pb.ProbeResult:
        """Measure a path. Raises `InvalidStateError`."""
        address = reading.address(request.address, "address")
        source = reading.address(request.source, "source") if request.source else None
        if not 1 <= request.port <= 65535:
            raise InvalidStateError("port", f"{request.port} is no port; expected 1 to 65535")
        count = min(request.count or 3, _MOST_PROBES)
        timeout = min(request.timeout_milliseconds or 1000, 5000) / 1000
        return await _probe(address, request.port, source, count=count, timeout=timeout, mtu=request.path_mtu)

    def _verdict(self) -> None:
        """A path began or ceased to pass: who wants to know is told, and flows are spread over those that do."""
        self.reconciler.reconsider()
        self._tell()

    def _tell(self) -> None:
        self._telling.set()

    async def _report(self) -> None:
        """Keep figures fresh, responders in place and watchers informed."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_SECONDS):
                    await self._telling.wait()
            self._telling.clear()
            await self._responder.answer_at(_answering(self.reconciler.desired))
            if self.settings.role is not Role.PROBE:
                await self._refresh()
            async with self._news:
                self._edition += 1
                self._news.notify_all()

    async def _refresh(self) -> None:
        try:
            await self.reconciler.refresh()
            self._counts = await tables.counts()
        except KernelError as error:
            log.warning("figures are not to be had", error=str(error))

    def counters(self) -> list[tuple[str, str, Count]]:
        """(reason, peer, count) of each counter of the firewall."""
        desired = self.reconciler.desired
        names = peerchains.counters(desired) if desired else {}
        return [(*names[name], count) for name, count in sorted(self._counts.items()) if name in names]

    async def clean(self) -> list[Problem]:
        """Remove all that is ours."""
        return await self.reconciler.clean()


def _answering(desired: Desired | None) -> set[tuple[Address, int]]:
    if desired is None or not desired.responder_port:
        return set()
    addresses: set[Address] = {interface.ip for link in desired.links for interface in link.addresses}
    return {(address, desired.responder_port) for address in addresses | set(desired.responder_addresses)}


async def _probe(
    address: Address, port: int, source: Address | None, *, count: int, timeout: float, mtu: bool
) -> pb.ProbeResult:
    try:
        async with ProbePath.open(address, port, source=source) as path:
            found = [await path.probe(timeout=timeout) for _ in range(count)]
            answers = [seconds for seconds in found if seconds is not None]
            return pb.ProbeResult(
                passing=bool(answers),
                sent=count,
                answered=len(answers),
                latency_microseconds=round(min(answers) * 1e6) if answers else 0,
                path_mtu=await path.mtu(timeout=timeout) if mtu and answers else 0,
                message="" if answers else path.error or "no answer",
            )
    except OSError as error:
        return pb.ProbeResult(message=error.strerror or str(error))
