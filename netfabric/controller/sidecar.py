"""The probe in a virtual kubelet's pod, as that process drives it: over a Unix socket that only their user can open.

The virtual kubelet knows whom to ask, from the NetworkPeering that it watches anyway, so nobody else has to be reached,
or to be right, for the Node to tell the truth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from ipaddress import ip_address

from netfabric._pb import fabric_pb2 as pb
from netfabric.controller.agents import AgentConnection, Rhythm
from netfabric.controller.desired import CONTRACT
from netfabric.controller.facts import Agent
from netfabric.plan.probes import RESPONDER_PORT

LOST_AFTER = 6
"""At one a second. Another gateway takes over in 3 s, and a node that is gone is replaced as who answers in 5 s: no
broken path, either of them. With a second or two for what is under way, and to write the Node, it is told in 10 s."""
PASSING_AFTER = 3
FULL_SIZE_EVERY = 2
_RHYTHM = Rhythm(interval=1, silence=5.0)


def state(name: str, peer: str, addresses: Sequence[str]) -> pb.DesiredState:
    """What the probe of this name shall measure: whether these addresses of a peer answer. Pure."""
    return pb.DesiredState(
        contract=CONTRACT, agent=name, role=pb.ROLE_PROBE, probes=[_target(peer, one) for one in addresses]
    )


def _target(peer: str, address: str) -> pb.ProbeTarget:
    return pb.ProbeTarget(
        name=f"{peer}-ipv{ip_address(address).version}",
        peer=peer,
        address=address,
        port=RESPONDER_PORT,
        lost_after=LOST_AFTER,
        passing_after=PASSING_AFTER,
        full_size_every=FULL_SIZE_EVERY,
    )


class Sidecar:
    """One probe. `changed` is called in the event loop whenever something is heard of it, or nothing any more."""

    def __init__(self, target: str, *, name: str, peer: str, changed: Callable[[], None]) -> None:
        """`target` is `unix:/path`."""
        self._name, self._peer = name, peer
        self._wanted: dict[str, str] = {}
        self._connection = AgentConnection(
            Agent(name=name, role="probe", address=""),
            target=target,
            credential=lambda: None,
            changed=lambda _: changed(),
            slots=asyncio.Semaphore(1),
            rhythm=_RHYTHM,
        )

    async def run(self) -> None:
        """Be connected, for ever."""
        await self._connection.run()

    def ask(self, addresses: Sequence[str]) -> None:
        """Have it measure the ways to these, and no others."""
        wanted = state(self._name, self._peer, addresses)
        self._wanted = {target.name: target.address for target in wanted.probes}
        # There is one leader ever, so one term.
        self._connection.want(wanted, term=1)

    @property
    def paths(self) -> dict[str, pb.ProbeState]:
        """By address, what it says now; without what it does not measure yet, and none if it is silent."""
        heard = self._connection
        if not heard.connected or not heard.current or heard.state is None:
            return {}
        return {self._wanted[one.name]: one for one in heard.state.probes if one.name in self._wanted}
