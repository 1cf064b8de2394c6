"""Dials peers anew that answer no longer.

A peer's gateway may be replaced by another one behind the same address: it has the same keys and no sessions, so what
is sent to it in an old one is lost without a word. WireGuard itself notices after 15 s; probes know within two. So
where *we* dial, a peer from which nothing comes any more is sent a handshake instead of packets of its old session.

That is harmless where something else is wrong: until the handshake is answered WireGuard keeps back what is to be sent
rather than lose it, and what the peer sends in the old session is still taken. All the same it is only for a while:
then WireGuard's own handshakes do, one in 5 s.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from netfabric.agent.errors import KernelError
from netfabric.agent.model import Link, WireGuardLink, WireGuardPeer
from netfabric.agent.probing import Monitor
from netfabric.agent.reconcile import Reconciler

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5
LOST = 2
"""So many probes in a row must be lost: one may be by chance."""
QUIET_SECONDS = 1.0
"""So long nothing at all must have come: whose agent alone is dead still has packets to send."""
AGAIN_SECONDS = 2.0
"""Between two dials: a handshake may take so long. The one who takes over may need several seconds to be there."""
ANSWERED_SECONDS = 15.0
"""The same after one that was answered: the session is good, so it is something else. What WireGuard itself takes."""
GIVE_UP_SECONDS = 300.0
"""By then it is no gateway that is exchanged."""


@dataclass(slots=True)
class Silence:
    """What has come from a peer while its probe is lost. Times are of one clock."""

    received: int
    since: float
    """When something came last, or it was first looked at."""
    _dialled: float = field(default=float("-inf"))
    _answered: bool = False

    def is_over(self, *, now: float) -> bool:
        """Whether it has lasted too long to be worth another look before a probe is answered."""
        return now - self.since > GIVE_UP_SECONDS

    def is_due(self, received: int, *, now: float) -> bool:
        """Whether to dial now, the peer having sent so many bytes in all; if so, it is done."""
        if received != self.received:
            self.received, self.since, self._answered = received, now, True
        quiet, pause = now - self.since, ANSWERED_SECONDS if self._answered else AGAIN_SECONDS
        if not QUIET_SECONDS <= quiet <= GIVE_UP_SECONDS or now - self._dialled < pause:
            return False
        self._dialled, self._answered = now, False
        return True


@dataclass(frozen=True, slots=True)
class Lost:
    """A link whose probes are lost."""

    probes: int
    """So many in a row."""
    dialled: bool
    """Whether it is known where the peer is, though it may not have said a word yet."""


class Redialler:
    """Watches the probes of peers."""

    def __init__(
        self, monitor: Monitor, reconciler: Reconciler, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._monitor = monitor
        self._reconciler = reconciler
        self._clock = clock
        self._silences: dict[str, Silence] = {}
        """By link whose probe is lost."""
        self._said = ""

    async def run(self) -> None:
        """Watch, for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            said = ""
            try:
                await self.look()
            except KernelError as error:
                said = str(error)
            if said and said != self._said:
                log.warning("a silent peer cannot be dialled", error=said)
            self._said = said

    async def look(self) -> None:
        """Dial whom that is due for now. Raises `KernelError`."""
        lost, now = self._lost(), self._clock()
        self._silences = {name: silence for name, silence in self._silences.items() if name in lost}
        over = {name for name, silence in self._silences.items() if silence.is_over(now=now)}
        if lost.keys() <= over:
            return  # a peer may be away for days: no program is run for that
        received = await self._reconciler.received(lost.keys() - over)
        due = set()
        for name, count in received.items():
            if not count and not lost[name].dialled:
                continue  # where it is nobody knows, before it has dialled
            silence = self._silences.setdefault(name, Silence(count, now))
            if lost[name].probes >= LOST and silence.is_due(count, now=now):
                due.add(name)
        if due:
            await self._reconciler.redial(due)

    def _lost(self) -> dict[str, Lost]:
        """Links to one peer whose probes are lost."""
        desired = self._reconciler.desired
        if desired is None or desired.standby:
            return {}
        found: dict[str, Lost] = {}
        for link in desired.links:
            if (peer := only_peer(link)) is None:
                continue
            counts = [one.lost for one in self._monitor.measured.values() if one.target.address in link.neighbours]
            if fewest := min(counts, default=0):
                found[link.name] = Lost(fewest, dialled=peer.endpoint is not None)
        return found


def only_peer(link: Link) -> WireGuardPeer | None:
    """The peer of a link that has one: sessions are forgotten for all peers of a link at once."""
    kind = link.kind
    return kind.peers[0] if isinstance(kind, WireGuardLink) and len(kind.peers) == 1 else None
