"""Who writes, where several processes could."""

from __future__ import annotations

from typing import Final, Protocol

NOT_LEADING_RETRY: Final = 1.0
"""Seconds after which a process that does not lead looks again whether it does."""


class Leadership(Protocol):
    """Whether this process is the one that writes; `kube.election.LeaderElector` is one."""

    def check(self) -> None:
        """Raise `kube.election.NotLeader` unless we surely lead at this moment."""


class Alone:
    """Leadership of a process that has no rivals."""

    def check(self) -> None:
        """Lead always."""
