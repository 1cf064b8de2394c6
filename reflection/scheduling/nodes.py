"""Virtual nodes as the controller of NamespaceOffloadings sees them: labels, and whether their provider is away."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec.structs import force_setattr

from api.offloading.common import PATH_BROKEN
from kube.objects import Metadata

READY: Final = "Ready"
LOST: Final = "False"


class _Condition(msgspec.Struct, frozen=True, rename="camel", gc=False):
    type: str = ""
    status: str = ""
    reason: str = ""
    last_transition_time: str | None = None


class _Status(msgspec.Struct, frozen=True, gc=False):
    conditions: tuple[_Condition, ...] = ()


class SeenNode(msgspec.Struct, frozen=True, gc=False):
    """What is kept of a Node."""

    metadata: Metadata
    status: _Status = _Status()

    def __post_init__(self) -> None:
        ready = tuple(one for one in self.status.conditions if one.type == READY)
        force_setattr(self, "status", _Status(ready))

    @property
    def ready(self) -> _Condition:
        """The Node's Ready condition; an empty one before its virtual kubelet has said anything."""
        return self.status.conditions[0] if self.status.conditions else _Condition()


class Outages:
    """Which nodes say that they have lost their provider, and for how long this process has known it.

    Only the node's own word counts, Ready=False, unless it says that its provider answers and only pods do not reach
    each other: those there are known to run. Unknown is Kubernetes' word for a virtual kubelet that is silent:
    nobody knows of its provider then, and nothing is done. Time is our own (monotonic), for the node's clock may be
    wrong: a manager that has just started begins anew, and a standby has counted as long as the leader.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}

    def observe(self, name: str, node: SeenNode | None) -> None:
        """A Node changed, or went."""
        if node is None or node.ready.status != LOST or node.ready.reason == PATH_BROKEN:
            self._since.pop(name, None)
        else:
            self._since.setdefault(name, self._clock())

    def lasting(self, name: str) -> float | None:
        """Seconds for which a node is known to have lost its provider; None if it has not."""
        began = self._since.get(name)
        return None if began is None else self._clock() - began
