"""Bounds on connections whose caller is not known yet, so that strangers can't exhaust memory or lock anybody out.

A connection is *pending* from accept until its caller is authenticated. When a source (or the whole server) has too
many pending connections, one of them gives way to the new one: the oldest that has done its handshake and asks for
nothing, else the oldest that has not sent a byte, else the oldest at all. An honest caller speaks at once, asks at
once, and one with a certificate is known with the handshake, so it gets in even if it shares its address with the
flood, as all do behind a proxy.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable


class Phase(enum.IntEnum):
    """How far a pending connection has come, in the order in which they give way."""

    IDLE = 0
    SILENT = 1
    WORKING = 2
    """In the handshake, or its credentials are being looked at."""


@dataclasses.dataclass(slots=True, eq=False)
class Ticket:
    """A pending connection; `drop` ends it."""

    source: str
    drop: Callable[[], None]
    phase: Phase = Phase.SILENT
    settled: bool = False


class Admission:
    """Counts pending connections per source and overall. Bounds are small: choosing who gives way looks at all."""

    def __init__(self, *, per_source: int, total: int, on_drop: Callable[[], None] = lambda: None) -> None:
        self._per_source = per_source
        self._total = total
        self._on_drop = on_drop
        self._sources: dict[str, dict[Ticket, None]] = {}
        self._pending = 0

    def __len__(self) -> int:
        return self._pending

    def admit(self, source: str, *, drop: Callable[[], None]) -> Ticket:
        """Count a new connection in; may drop another of its source, or of the source that has most."""
        if len(self._sources.get(source, ())) >= self._per_source:
            self._make_room(source)
        elif self._pending >= self._total:
            self._make_room(max(self._sources, key=lambda name: len(self._sources[name])))
        ticket = Ticket(source, drop)
        self._sources.setdefault(source, {})[ticket] = None
        self._pending += 1
        return ticket

    def settle(self, ticket: Ticket) -> None:
        """Count a connection out, for its caller is known or it has ended; again and again does no harm."""
        if ticket.settled:
            return
        ticket.settled = True
        tickets = self._sources[ticket.source]
        del tickets[ticket]
        if not tickets:
            del self._sources[ticket.source]
        self._pending -= 1

    def _make_room(self, source: str) -> None:
        # Of equal phases the first, that is the oldest, is chosen.
        ticket = min(self._sources[source], key=lambda candidate: candidate.phase)
        self.settle(ticket)
        self._on_drop()
        ticket.drop()
