"""Which gateway is the active one. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from netfabric.controller.agents import AgentConnection

SETTLE_SECONDS = 3.0
"""After its start the controller waits this long for gateways to say which of them was active."""


def choose(gateways: Sequence[tuple[int, AgentConnection]], *, current: str, waited: float) -> str:
    """The gateway to use, by name; empty if there is none yet. `gateways` have their numbers.

    The one that is in use stays as long as it is heard, and also while none is: whoever hears nobody may be deaf
    himself, and packets need no controller.
    """
    heard = sorted(((number, one) for number, one in gateways if one.connected), key=lambda pair: pair[0])
    names = {one.name for _, one in gateways}
    if current in names and (not heard or any(one.name == current for _, one in heard)):
        return current
    working = [
        one for _, one in heard if one.state is not None and one.state.applied.generation and not one.state.standby
    ]
    if working:
        return working[0].name
    if not current and len(heard) < len(gateways) and waited < SETTLE_SECONDS:
        return ""
    return heard[0][1].name if heard else ""
