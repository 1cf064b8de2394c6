"""A provider that ends many pods at once though nobody here asked for it: told on the Node, and no more (abuse A36).

Nothing is deleted at the consumer on a provider's word: a pod whose remote pod vanished, or is said to have ended
against its restart policy, stays and is made good (`reflection.pods`). What is missing without this is that somebody
looks: a provider's administrator may have removed namespaces, or the provider may lie.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from kube.objects import Object
from kube.store import Change, Key
from reflection.decode import TERMINAL_PHASES, decode_pod, phase

log = structlog.get_logger(__name__)

WINDOW: Final = 60.0
"""Seconds within which ends count together."""
FEWEST: Final = 10
SHARE: Final = 0.5
"""Of the pods on the node: how many have to end for it to be told."""
QUIET: Final = 600.0
"""Seconds until it is told again."""


class MassEnd:
    """Counts pods that the provider ended. `tell` gets the text."""

    def __init__(
        self,
        *,
        origin: Callable[[Object], Object | None],
        total: Callable[[], int],
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`origin`: the consumer's pod that a remote pod is for, if there is one; `total`: how many the node has."""
        self._origin = origin
        self._total = total
        self._tell = tell
        self._clock = clock
        self._ends: deque[tuple[float, Key]] = deque()
        self._told_at: float | None = None

    def remote_changed(self, change: Change[Object]) -> None:
        """A remote pod changed or went."""
        if change.old is None or not self._is_end(change.old, change.new):
            return
        now = self._clock()
        self._ends.append((now, change.key))
        while self._ends and now - self._ends[0][0] > WINDOW:
            self._ends.popleft()
        ended = len({key for _, key in self._ends})
        if ended < max(FEWEST, SHARE * self._total()):
            return
        if self._told_at is None or now - self._told_at > QUIET:
            self._told_at = now
            log.warning("the provider ended many pods", ended=ended)
            self._tell(
                f"{ended} of {self._total()} pods ended or vanished at the provider within a minute, and nobody here "
                "asked for it: they are kept, and made again where their restart policy says so; ask the provider what "
                "happened"
            )

    def _is_end(self, old: Object, new: Object | None) -> bool:
        if phase(old) in TERMINAL_PHASES or (new is not None and phase(new) not in TERMINAL_PHASES):
            return False
        origin = self._origin(old)
        if origin is None or origin.metadata.deletion_timestamp is not None or phase(origin) in TERMINAL_PHASES:
            return False
        # Others may run to their end; these have none.
        return new is None or decode_pod(origin)["spec"].get("restartPolicy", "Always") == "Always"
