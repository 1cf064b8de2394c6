"""Small values that one part of the node owns and the Node's controller reads.

A part (ping, certificate, capacity) states what it knows as a value and says "changed"; the controller asks again.
Nothing is carried by the notification itself, so a lost or repeated one does no harm.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

ConditionStatus = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A node condition as its owner states it; times are added where it is written.

    `reason` is CamelCase for programs, `message` is for people and says what to do.
    """

    type: str
    status: ConditionStatus
    reason: str
    message: str
    normal: ConditionStatus = "True"
    """The status of which nobody needs to be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether something the Node's readiness rests upon holds, and why (not)."""

    ok: bool
    reason: str
    message: str


class Notifier:
    """Listeners to be called, on the event loop, when a value has changed."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[], None]] = []

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call `listener` (which must neither block nor raise) after each change from now on."""
        self._listeners.append(listener)

    def notify(self) -> None:
        """Tell every listener."""
        for listener in self._listeners:
            listener()


class ReadinessProbe(Protocol):
    """Something that must hold for the Node to be Ready: the provider's API answers, the data path works."""

    changed: Notifier

    @property
    def verdict(self) -> Verdict | None:
        """What is known now; None: nothing yet (the Node's Ready condition is then left as it is)."""


class ConditionSource(Protocol):
    """A part that publishes a condition of its own on the Node."""

    changed: Notifier

    @property
    def condition(self) -> Condition | None:
        """The condition now; None: leave it out."""


class CapacitySource(Protocol):
    """Where the Node's resources come from."""

    changed: Notifier

    @property
    def resources(self) -> dict[str, str] | None:
        """Resource name -> quantity; None: not known yet (what the Node has is then left as it is)."""
