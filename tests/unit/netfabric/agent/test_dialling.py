"""When a peer is dialled anew: only if we dial it, its probe is lost and nothing at all comes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable
from typing import cast

import pytest

from netfabric._pb import fabric_pb2 as pb
from netfabric.agent import dialling, reading
from netfabric.agent.dialling import AGAIN_SECONDS, ANSWERED_SECONDS, GIVE_UP_SECONDS, Redialler, Silence
from netfabric.agent.model import Desired
from netfabric.agent.probing import Measured, Monitor
from netfabric.agent.reconcile import Reconciler
from tests.unit.netfabric.agent.states import PUBLIC, gateway


def test_silence_is_broken_soon_again_while_there_is_no_answer_and_not_for_ever() -> None:
    silence = Silence(10, since=0.0)
    dials = [second / 2 for second in range(700) if silence.is_due(10, now=second / 2)]
    assert dials[0] == dialling.QUIET_SECONDS
    assert {after - before for before, after in itertools.pairwise(dials)} == {AGAIN_SECONDS}
    assert GIVE_UP_SECONDS - AGAIN_SECONDS < dials[-1] <= GIVE_UP_SECONDS


def test_who_sends_something_is_not_dialled() -> None:
    silence = Silence(10, since=0.0)
    assert not any(silence.is_due(10 + second, now=second / 2) for second in range(200))


def test_a_dial_that_was_answered_is_not_soon_tried_again() -> None:
    """The session is good, and something else is wrong: the peer's agent is dead, for one."""
    silence = Silence(10, since=0.0)
    assert silence.is_due(10, now=2.0)
    assert not silence.is_due(102, now=2.5)
    assert not any(silence.is_due(102, now=now) for now in (4.0, 6.0, 2.0 + ANSWERED_SECONDS - 0.1))
    assert silence.is_due(102, now=2.0 + ANSWERED_SECONDS)


class Tunnels:
    """A reconciler that knows what came by each link, and is asked to dial."""

    def __init__(self, desired: Desired) -> None:
        self.desired = desired
        self.dialled: list[str] = []
        self.looks = 0
        self.come = 0

    async def received(self, links: Iterable[str]) -> dict[str, int]:
        self.looks += 1
        return dict.fromkeys(links, self.come)

    async def redial(self, names: Collection[str]) -> None:
        self.dialled += names


def probed(state: pb.DesiredState, *lost: int) -> tuple[Tunnels, Monitor]:
    """A gateway that probes its peer's ends of the tunnel, and has lost so many in a row."""
    for number, address in zip(range(len(lost)), ("169.254.18.2", "fd18::2"), strict=False):
        state.probes.add(name=f"b-{number}", address=address, port=7300)
    desired = reading.read(state)
    monitor = Monitor()
    monitor.measured = {
        target.name: Measured(target, lost=count) for target, count in zip(desired.probes, lost, strict=True)
    }
    return Tunnels(desired), monitor


async def dials(tunnels: Tunnels, monitor: Monitor) -> list[str]:
    """What is dialled in a second and a half, by looks every half second."""
    clock = itertools.count(step=0.5)
    redialler = Redialler(monitor, cast(Reconciler, tunnels), clock=lambda: next(clock))
    for _ in range(4):
        await redialler.look()
    return tunnels.dialled


async def test_a_peer_that_is_silent_is_dialled_once() -> None:
    assert await dials(*probed(gateway(), 2)) == ["wg-b"]


@pytest.mark.parametrize("lost", [(0,), (1,), (5, 0)], ids=["passing", "one-lost", "another-family-passes"])
async def test_a_peer_that_answers_is_not(lost: tuple[int, ...]) -> None:
    tunnels, monitor = probed(gateway(), *lost)
    assert not await dials(tunnels, monitor)
    assert (tunnels.looks > 0) == (min(lost) > 0), "nothing is run while there is nothing to know"


async def test_nothing_is_run_for_a_peer_that_has_long_been_away() -> None:
    tunnels, monitor = probed(gateway(), 9)
    times = iter([0.0, GIVE_UP_SECONDS + 1, GIVE_UP_SECONDS + 2])
    redialler = Redialler(monitor, cast(Reconciler, tunnels), clock=lambda: next(times))
    for _ in range(3):
        await redialler.look()
    assert tunnels.looks == 1


def _dials_in(state: pb.DesiredState) -> None:
    state.links[0].wireguard.peers[0].endpoint = ""


async def test_a_peer_that_dials_us_is_dialled_where_it_was_heard() -> None:
    """So what is sent to it meanwhile waits for it."""
    state = gateway()
    _dials_in(state)
    tunnels, monitor = probed(state, 2)
    assert not await dials(tunnels, monitor), "nobody knows where it is"
    tunnels.come = 148
    assert await dials(tunnels, monitor) == ["wg-b"]


def _shares(state: pb.DesiredState) -> None:
    state.links[0].wireguard.peers.add(public_key=PUBLIC[::-1])


def _stands_by(state: pb.DesiredState) -> None:
    state.standby = True


@pytest.mark.parametrize("spoil", [_shares, _stands_by])
async def test_what_other_peers_or_another_gateway_use_is_left_alone(spoil: Callable[[pb.DesiredState], None]) -> None:
    state = gateway()
    spoil(state)
    assert not await dials(*probed(state, 9))
