"""Which of a peer's links its flows are spread over: those whose probes are answered. Pure.

A link that has just been made joins when its first probe is answered, for then the other end has it too; one whose
probes are lost leaves, and comes back with the first answer. While nothing is known of a link, as after a restart of
the agent, it stays as the kernel has it. If no link is known to be good the first one carries all, as if it were alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from netfabric.agent.kernel import TABLE_BASE, KernelState
from netfabric.agent.model import Desired, Peer
from netfabric.agent.probing import Measured

Verdicts = Mapping[str, bool | None]
"""By link, whether its probes are answered; None: not known yet. None are there of links that nobody probes."""


def verdicts(desired: Desired, measured: Iterable[Measured]) -> Verdicts:
    """What probes say of links: one that asks at a link's other end speaks for that link."""
    by_address = {one.target.address: one for one in measured}
    asked = {probe.address for probe in desired.probes}
    found: dict[str, bool | None] = {}
    for link in desired.links:
        for address in asked.intersection(link.neighbours):
            probe = by_address.get(address)
            found[link.name] = probe.passing if probe is not None and probe.settled else None
    return found


def carrying(desired: Desired, present: KernelState, known: Verdicts) -> dict[str, tuple[str, ...]]:
    """By peer with several links, those of them that carry its flows."""
    return {peer.name: _of(peer, present, known) for peer in desired.peers if len(peer.links) > 1}


def _of(peer: Peer, present: KernelState, known: Verdicts) -> tuple[str, ...]:
    routes = (route for route in present.routes if route.table == TABLE_BASE + peer.number)
    now = {link for route in routes for link in route.links}
    used = (link for link in peer.links if (link in now if known.get(link, True) is None else known.get(link, True)))
    return tuple(used) or peer.links[:1]
