"""The network to a provider as the Node tells it: what plugs the fabric's probe into a virtual kubelet."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

from isthmus.peered import Peered
from netfabric.controller.sidecar import Sidecar
from vk.node.clock import SYSTEM, Clock, wait
from vk.node.datapath import DataPath, Path, Report

SILENT_SECONDS = 15.0
"""A probe that is started anew has measured by then."""
LOOK_SECONDS = 1.0


class Probed:
    """Asks as the NetworkPeering says, and tells `data_path`. Run `run` for ever."""

    def __init__(
        self,
        peered: Peered,
        *,
        socket: str,
        node: str,
        peering: str,
        own: tuple[str, ...],
        clock: Clock = SYSTEM,
    ) -> None:
        """`own` are this pod's addresses: who has none of a family can ask nobody in it."""
        self.data_path = DataPath(provider=peering)
        self._peered = peered
        self._peering = peering
        self._versions = {ip_address(address).version for address in own}
        self._clock = clock
        self._news = asyncio.Event()
        self._heard = clock.monotonic()
        self._sidecar = Sidecar(socket, name=node, peer=peering, changed=self._news.set)
        peered.subscribe(self._news.set)

    async def run(self) -> None:
        """Drive the probe, and tell what it says."""
        self._heard = self._clock.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sidecar.run(), name="probe's connection")
            while True:
                self._news.clear()
                self.data_path.tell(self.report())
                await wait(self._news, seconds=LOOK_SECONDS)

    def report(self) -> Report:
        """What is known now."""
        asked = [one for one in self._peered.probed if ip_address(one).version in self._versions]
        self._sidecar.ask(asked)
        now = self._clock.monotonic()
        if not asked:
            self._heard = now
            told = (
                f"NetworkPeering {self._peering} does not say where its pods are asked for (spec.peer.probeAddresses)"
            )
            return Report(reason="NotMeasured", message=f"{told}: exchange the halves anew")
        found = self._sidecar.paths
        paths = tuple(
            Path(address=one, settled=state.settled, passing=state.passing, full_size_lost=state.full_size_lost)
            for one, state in found.items()
        )
        if len(paths) == len(asked) and all(path.settled for path in paths):
            self._heard = now
        elif now - self._heard >= SILENT_SECONDS:
            return Report(reason="ProbeSilent", message="container probe of the virtual kubelet's pod says nothing")
        return Report(paths=paths) if len(paths) == len(asked) else Report()
