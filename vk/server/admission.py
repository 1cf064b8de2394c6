"""Bounds on connections whose caller is not known yet, so that strangers can't exhaust memory or lock anybody out.

A connection is *pending* from accept until its caller is authenticated. When a source (or the whole server) has too
many pending connections, the oldest one is dropped and the new one taken: an honest caller proves itself within
milliseconds and gets in even if it shares its address with the flood, as all do behind a proxy.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(slots=True, eq=False)
class Ticket:
    """A pending connection; `drop` ends it."""

    source: str
    drop: Callable[[], None]
    settled: bool = False


class Admission:
    """Counts pending connections per source and overall."""

    def __init__(self, *, per_source: int, total: int, on_drop: Callable[[], None] = lambda: None) -> None:
        self._per_source = per_source
        self._total = total
        self._sources: dict[str, collections.OrderedDict[Ticket, None]] = {}
        self._pending = 0
        self._on_drop = on_drop

    def __len__(self) -> int:
        return self._pending

    def admit(self, source: str, *, drop: Callable[[], None]) -> Ticket:
        """Count a new connection in; may drop the oldest of its source, or of the source that has most."""
        if len(self._sources.get(source, ())) >= self._per_source:
            self._drop_oldest(source)
        elif self._pending >= self._total:
            self._drop_oldest(max(self._sources, key=lambda name: len(self._sources[name])))
        ticket = Ticket(source, drop)
        self._sources.setdefault(source, collections.OrderedDict())[ticket] = None
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

    def _drop_oldest(self, source: str) -> None:
        ticket = next(iter(self._sources[source]))
        self.settle(ticket)
        self._on_drop()
        ticket.drop()
