"""Has the desired state in the kernel and keeps it there.

One pass sees to the firewall, dumps the kernel, compares, does the steps that are missing and configures tunnels; a
pass over a healthy kernel changes nothing. Passes come after every change in the kernel, whoever made it, and every few
seconds in any case: that is how what somebody removed comes back, how names are resolved again and how a step that
failed is tried again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from netfabric._pb import fabric_pb2 as pb
from netfabric.agent import changes, diff, firewall, kernel, paths, reading, sharing, tables, tunnels, wireguard
from netfabric.agent.diff import Do, LinkStep
from netfabric.agent.errors import FabricError, KernelError, StaleStateError
from netfabric.agent.kernel import Abilities, KernelState
from netfabric.agent.memory import Memory
from netfabric.agent.model import Desired, Problem
from netfabric.agent.netlink import Netlink
from netfabric.agent.probing import Measured
from netfabric.agent.tunnels import Tunnel
from netfabric.agent.wireguard import Report

log = structlog.get_logger(__name__)

POLL_SECONDS = 5.0
"""The kernel does not tell of every change: WireGuard's peers are looked at so often."""
SETTLE_SECONDS = 0.05
"""Changes come in bursts: a pass waits for the rest of one."""
MTU_SECONDS = 60.0
FRESH_SECONDS = 1.0
"""Figures of WireGuard that are no older are not read again for a report."""
_WIREGUARD = ("wireguard", "tun")
SYSCTL = Path("/proc/sys/net")


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of a pass."""

    version: tuple[int, int]
    problems: tuple[Problem, ...]
    at: float
    """Unix time."""


@dataclass(slots=True)
class _Pass:
    """One pass: what it did and what it could not."""

    problems: list[Problem] = field(default_factory=list)
    done: int = 0
    news: frozenset[diff.Step] = frozenset()
    """Steps from what was wanted before to what is now: they are no repairs."""

    def failed(self, where: str, error: KernelError) -> None:
        self.problems.append(Problem(where, error.reason, str(error)))


class Reconciler:
    """Owns the kernel state of one network namespace. `apply` may be called while `run` runs."""

    def __init__(
        self,
        netlink: Netlink,
        memory: Memory,
        *,
        abilities: Abilities,
        measures_only: bool = False,
        sysctl: Path = SYSCTL,
    ) -> None:
        """`measures_only`: a probe, which has no right over the kernel and no use for one.

        `sysctl`: where settings below /proc/sys/net are, which a container sees read-only at the usual place.
        """
        self._netlink = netlink
        self._memory = memory
        self._measures_only = measures_only
        self.abilities = abilities
        self._settings = sysctl
        self.on_pass: Callable[[], None] = lambda: None
        """Called after each pass."""
        self.measured: Callable[[], Iterable[Measured]] = tuple
        """What probes have found so far."""
        self._changed = asyncio.Event()
        self._lock = asyncio.Lock()
        self._fingerprint = memory.load_firewall()
        self._asked: tuple[Desired | None, str] = (None, "")
        """The digest of what a state asks of the firewall: rendering it for each pass would cost more than the rest."""
        self._wireguard = tunnels.WireGuardTunnel()
        self._tunnels: Sequence[Tunnel] = (self._wireguard, tunnels.OverlayTunnel(), tunnels.ThirdPartyTunnel())
        self._outer_mtus: dict[str, int] = {}
        self.desired: Desired | None = None
        self.applied: Applied | None = None
        self.wanted = KernelState()
        self.repairs = 0

    def restore(self) -> None:
        """Take up the state of the last run, if there is one that can still be read."""
        content = self._memory.load_state()
        if content is None:
            return
        try:
            self.desired = reading.read(pb.DesiredState.FromString(content))
        except (FabricError, ValueError) as error:
            log.error("kept state is unreadable, waiting for the controller", error=str(error))
            return
        log.info("kept state taken up", term=self.desired.term, generation=self.desired.generation)

    async def apply(self, desired: Desired, message: bytes) -> Applied:
        """Have another state; `message` is what it was read from. Raises `StaleStateError`, OSError: not kept."""
        async with self._lock:
            held = self.desired
            if held is not None and desired.version < held.version:
                raise StaleStateError(
                    f"generation {desired.generation} of term {desired.term} is older than what is applied: "
                    f"{held.generation} of {held.term}"
                )
            # First on disk: what is in the kernel must be known to the next run.
            await asyncio.to_thread(self._memory.save_state, message)
            self.desired = desired
            return await self._reconcile(desired, repairing=desired == held)

    async def run(self) -> None:
        """Keep the state, for ever."""
        if self._measures_only:
            await self._take_up()
            await asyncio.Event().wait()
        with changes.watch(self._changed):
            self._changed.set()
            while True:
                await self._await_change()
                async with self._lock:
                    if self.desired is not None:
                        await self._reconcile(self.desired, repairing=True)

    def reconsider(self) -> None:
        """A probe's verdict is another: have a pass soon, if that changes by which links flows go."""
        if self.desired is not None and any(len(peer.links) > 1 for peer in self.desired.peers):
            self._changed.set()

    async def watch_paths(self) -> None:
        """Measure how large outer packets may be, for ever."""
        while True:
            if self.desired is not None and await self._measure(self.desired):
                self._changed.set()
            # Until the far end is known there is nothing to measure: look again soon.
            known = self.desired is not None and len(self._outer_mtus) == len(self.desired.links)
            await asyncio.sleep(MTU_SECONDS if known else 1.0)

    async def clean(self) -> list[Problem]:
        """Remove all that is ours from the kernel and the disk."""
        async with self._lock:
            done = _Pass()
            if not self._measures_only:
                present = await self._netlink.dump()
                steps, _ = diff.difference(present, KernelState())
                await self._carry_out(steps, done)
                try:
                    await tables.replace(())
                except KernelError as error:
                    done.failed("firewall", error)
            self._memory.forget()
            self.desired = None
            return done.problems

    async def _take_up(self) -> None:
        """One pass, for what was restored."""
        async with self._lock:
            if self.desired is not None:
                await self._reconcile(self.desired, repairing=False)

    async def _await_change(self) -> None:
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._changed.wait()
            await asyncio.sleep(SETTLE_SECONDS)
        except TimeoutError:
            pass
        self._changed.clear()

    async def _reconcile(self, desired: Desired, *, repairing: bool) -> Applied:
        done = _Pass()
        try:
            if not self._measures_only:
                await self._rules_and_links(desired, done)
        except KernelError as error:
            done.failed("kernel", error)
        if repairing and done.done and self.applied is not None:
            self.repairs += done.done
            log.warning("put right what was not as desired", steps=done.done)
        applied = Applied(desired.version, tuple(done.problems), time.time())
        if self.applied is None or self.applied.problems != applied.problems:
            for problem in applied.problems:
                log.warning("not as desired", object=problem.object, reason=problem.reason, message=problem.message)
        self.applied = applied
        self.on_pass()
        return applied

    async def _rules_and_links(self, desired: Desired, done: _Pass) -> None:
        """No link is there without who watches it: rules come before the first, and stay until the last is gone."""
        if desired.links:
            await self._firewall(desired, done)
        await self._kernel(desired, done)
        if not desired.links and not done.problems:
            await self._firewall(desired, done)

    async def _kernel(self, desired: Desired, done: _Pass) -> None:
        present = await self._netlink.dump()
        carrying = sharing.carrying(desired, present, sharing.verdicts(desired, self.measured()))
        before, self.wanted = (
            self.wanted,
            kernel.wanted(desired, abilities=self.abilities, outer_mtus=self._outer_mtus, carrying=carrying),
        )
        if self.wanted != before:
            done.news = frozenset(diff.difference(before, self.wanted)[0])
        steps, problems = diff.difference(present, self.wanted)
        done.problems += problems
        await self._carry_out(steps, done)
        for path, value in kernel.sysctls(desired).items():
            self._sysctl(path, value, done)
        await self._wireguard.read(self._wireguard_links())
        for link in desired.links:
            if link.name not in self.wanted.links:
                continue
            tunnel = next(t for t in self._tunnels if t.carries(link))
            try:
                done.done += await tunnel.configure(link)
            except KernelError as error:
                done.failed(f"links[{link.name}]", error)

    async def _carry_out(self, steps: Sequence[diff.Step], done: _Pass) -> None:
        for step in steps:
            try:
                if isinstance(step, LinkStep) and step.do is Do.ADD and step.link.kind == "tun":
                    await wireguard.start_userspace(step.link.name)
                await self._netlink.carry_out(step)
            except KernelError as error:
                done.failed(step.object, error)
            else:
                done.done += step not in done.news
                log.info("kernel changed", do=step.do.value, object=step.object)

    async def _firewall(self, desired: Desired, done: _Pass) -> None:
        if self._asked[0] is not desired:
            objects = firewall.render(desired)
            self._asked = (desired, tables.digest(objects) if objects else "")
        if self._asked[1] == self._fingerprint.asked and await tables.listed() == self._fingerprint.listed:
            return
        self._fingerprint = await tables.replace(firewall.render(desired))
        await asyncio.to_thread(self._memory.save_firewall, self._fingerprint)
        done.done += 1

    def _sysctl(self, path: str, value: str, done: _Pass) -> None:
        file = self._settings / path
        try:
            if file.read_text().strip() != value:
                file.write_text(value)
                done.done += 1
        except OSError as error:
            if not path.endswith("rp_filter") or file.exists():
                done.problems.append(Problem(f"sysctl[{path}]", "SysctlRefused", f"{value}: {error.strerror}"))

    async def _measure(self, desired: Desired) -> bool:
        """Measure the ways of all links; whether one is other than thought."""
        found: dict[str, int] = {}
        for link in desired.links:
            tunnel = next(t for t in self._tunnels if t.carries(link))
            ways = [await paths.mtu(address, port) for address, port in tunnel.outer(link)]
            if sizes := [size for size in ways if size is not None]:
                found[link.name] = min(sizes)
        before = dict(self._outer_mtus)
        names = {link.name for link in desired.links}
        self._outer_mtus = {name: mtu for name, mtu in (self._outer_mtus | found).items() if name in names}
        return self._outer_mtus != before

    @property
    def wireguard_reports(self) -> Mapping[str, Report]:
        """WireGuard interfaces by name, as they were read last."""
        return self._wireguard.reports

    async def refresh(self) -> None:
        """Read figures anew. Raises `KernelError`."""
        async with self._lock:
            if self.wanted.links:
                await self._netlink.dump()
            # A pass is often over just now.
            await self._wireguard.read(self._wireguard_links(), seconds=FRESH_SECONDS)

    def _wireguard_links(self) -> set[str]:
        return {name for name, link in self.wanted.links.items() if link.kind in _WIREGUARD}

    async def received(self, links: Iterable[str]) -> dict[str, int]:
        """Bytes that have come so far by each of these WireGuard links. Raises `KernelError`."""
        async with self._lock:
            await self._wireguard.read(self._wireguard_links())
            reports = self._wireguard.reports
            return {n: sum(p.received for p in reports[n].peers.values()) for n in links if n in reports}

    async def redial(self, names: Collection[str]) -> None:
        """Have the peers of these WireGuard links dialled anew with the next packet. Raises `KernelError`."""
        desired = self.desired
        links = [link for link in desired.links if link.name in names] if desired is not None else []
        # Not with the lock: a name server that does not answer would hold up everything.
        ways = await asyncio.gather(*(self._wireguard.resolve(link) for link in links))
        async with self._lock:
            if self.desired is not desired:
                return
            for link, found in zip(links, ways, strict=True):
                if await self._wireguard.redial(link, found):
                    log.info("dialled anew", link=link.name)
                else:
                    self._changed.set()
