"""Ports of gateways: each tunnel has one of its own, and what is in use stays."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from netfabric.plan import ports
from netfabric.plan.model import PeerInput
from netfabric.plan.ports import Ports

few = st.sampled_from([51820, 51821, 51822, 51823])
wanted = st.lists(
    st.tuples(st.one_of(st.none(), few), st.integers(1, 4), st.one_of(st.just(0), few), st.lists(few, max_size=4)),
    max_size=4,
)


def remember(peer: PeerInput, found: Ports) -> PeerInput:
    return replace(peer, held_port=found.first, held_further=found.further)


@given(wanted)
def test_no_two_tunnels_have_one_port_and_a_plan_made_from_its_outcome_moves_none(
    given_peers: list[tuple[int | None, int, int, list[int]]],
) -> None:
    peers = [
        PeerInput(name=f"p{n}", port=port, tunnels=tunnels, held_port=held, held_further=tuple(further))
        for n, (port, tunnels, held, further) in enumerate(given_peers)
    ]
    made = ports.assign(peers)
    every = [port for one in made.values() for port in (one.first, *one.further) if port]
    assert len(every) == len(set(every))
    for peer in peers:
        one = made[peer.name]
        assert one.first or one.problem
        assert len(one.further) == (peer.tunnels - 1 if one.first else 0)
    settled = [remember(peer, made[peer.name]) for peer in peers if made[peer.name].first]
    assert ports.assign(settled) == {one.name: made[one.name] for one in settled}


def test_one_more_tunnel_has_the_next_port_and_moves_nobody() -> None:
    old = [PeerInput(name="a", held_port=51820), PeerInput(name="b", held_port=51821)]
    made = ports.assign([replace(old[0], tunnels=3), old[1], PeerInput(name="c")])
    # 51821 is in use; what is new comes after what needs a first port.
    assert made == {"a": Ports(51820, (51823, 51824)), "b": Ports(51821), "c": Ports(51822)}
    assert ports.assign([PeerInput(name="a", port=7000, tunnels=3)]) == {"a": Ports(7000, (7001, 7002))}


def test_a_port_that_is_in_use_by_a_further_tunnel_is_nobody_elses() -> None:
    held = PeerInput(name="a", tunnels=2, held_port=51820, held_further=(51821,))
    made = ports.assign([held, PeerInput(name="b", port=51821)])
    assert made["a"] == Ports(51820, (51821,))
    assert made["b"].problem is not None
    assert made["b"].problem.reason == "PortTaken"
    assert ports.assign([replace(held, port=51821)])["a"] == Ports(51821, (51822,)), "its own it may move"


def test_beyond_the_last_port_there_are_none() -> None:
    made = ports.assign([PeerInput(name="a", port=65535, tunnels=2)])
    assert made["a"] == Ports(65535, (51820,))
