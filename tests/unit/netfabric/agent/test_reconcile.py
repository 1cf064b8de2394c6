"""In which order a reconciler sees to rules and links; the kernel is a stub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from netfabric._pb import fabric_pb2 as pb
from netfabric.agent import diff, nft, reading, tables
from netfabric.agent import kernel as kernels
from netfabric.agent.errors import KernelError
from netfabric.agent.kernel import Abilities, KernelState
from netfabric.agent.memory import Memory
from netfabric.agent.model import OverlayLink
from netfabric.agent.netlink import Netlink
from netfabric.agent.reconcile import Reconciler
from netfabric.agent.tables import Fingerprint
from tests.unit.netfabric.agent.states import gateway


class Kernel:
    """What is asked of it, in order, and what is there."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.links: dict[str, object] = {}
        self.table = ""
        self.stuck = False
        """Whether links cannot be removed."""

    async def dump(self) -> KernelState:
        return KernelState(links=dict(self.links))  # type: ignore[arg-type] # those of steps

    async def carry_out(self, step: diff.Step) -> None:
        if not isinstance(step, diff.LinkStep):
            return
        if self.stuck and step.do is diff.Do.DELETE:
            raise KernelError("KernelRefused", "no")
        self.did.append(f"link {step.do.value}")
        if step.do is diff.Do.DELETE:
            del self.links[step.link.name]
        else:
            self.links[step.link.name] = step.link

    async def replace(self, objects: Sequence[nft.Json]) -> Fingerprint:
        self.did.append("rules" if objects else "no rules")
        self.table = tables.digest(objects) if objects else ""
        return Fingerprint(self.table, self.table)

    async def listed(self) -> str:
        return self.table


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(tables, "replace", made.replace)
    monkeypatch.setattr(tables, "listed", made.listed)
    monkeypatch.setattr(kernels, "sysctls", lambda _desired: {})
    return made


@pytest.fixture
def reconciler(kernel: Kernel, tmp_path: Path) -> Reconciler:
    abilities = Abilities(wireguard=None, geneve=False, vxlan=True)
    return Reconciler(cast(Netlink, kernel), Memory(tmp_path), abilities=abilities)


async def have(reconciler: Reconciler, state: pb.DesiredState) -> tuple[str, ...]:
    """Apply; the reasons of problems."""
    applied = await reconciler.apply(reading.read(state), state.SerializeToString())
    return tuple(problem.reason for problem in applied.problems)


def connected() -> pb.DesiredState:
    """A gateway whose one link is to a node."""
    made = gateway()
    del made.links[0], made.peers[:]
    assert all(isinstance(link.kind, OverlayLink) for link in reading.read(made).links)
    return made


def nothing() -> pb.DesiredState:
    made = connected()
    del made.links[:], made.routes[:]
    made.generation = 2
    return made


async def test_rules_come_before_the_first_link_and_go_after_the_last(reconciler: Reconciler, kernel: Kernel) -> None:
    assert await have(reconciler, connected()) == ()
    assert await have(reconciler, nothing()) == ()
    assert kernel.did == ["rules", "link add", "link delete", "no rules"]


async def test_rules_stay_as_long_as_a_link_cannot_be_removed(reconciler: Reconciler, kernel: Kernel) -> None:
    await have(reconciler, connected())
    kernel.stuck = True
    assert await have(reconciler, nothing()) == ("KernelRefused",)
    assert kernel.table, "nothing passes by it unwatched"
    kernel.stuck = False
    assert await have(reconciler, nothing()) == ()
    assert not kernel.table
    assert not kernel.links


async def test_what_is_wanted_otherwise_than_before_is_no_repair(reconciler: Reconciler, kernel: Kernel) -> None:
    async def repaired() -> int:
        before = reconciler.repairs
        await have(reconciler, connected())
        return reconciler.repairs - before

    await repaired()
    missing = await repaired()  # all but links, which this kernel does not keep
    reconciler._outer_mtus = {"un-1": 1400}
    assert (await repaired(), kernel.did[-1]) == (missing, "link change")
    kernel.links.clear()
    reconciler._outer_mtus = {"un-1": 1300}
    assert (await repaired(), kernel.did[-1]) == (missing + 1, "link add"), "also when both come at once"
