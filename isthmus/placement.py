"""The Node's condition on whether pods find places at the provider."""

from __future__ import annotations

from reflection.pending import PendingLimit
from vk.node.signals import Condition, Notifier

CONDITION = "PlacementFailing"


class Placement:
    """A `ConditionSource`: True for a while after pods were evicted because the provider had no node for them."""

    def __init__(self, pending: PendingLimit) -> None:
        self.changed = Notifier()
        self._pending = pending
        pending.failing_changed.append(self.changed.notify)

    @property
    def condition(self) -> Condition | None:
        """Of type PlacementFailing."""
        why = self._pending.failing
        if why is None:
            message = "no pod was evicted lately for want of a place at the provider"
            return Condition(type=CONDITION, status="False", reason="PodsPlaced", message=message, normal="False")
        message = f"at the provider: {why}"
        return Condition(type=CONDITION, status="True", reason="NoNodeFits", message=message, normal="False")
