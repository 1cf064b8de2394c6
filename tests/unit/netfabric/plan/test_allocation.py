"""The address plan: properties over any declaration, and the cases that have names."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netfabric.plan.allocation import plan
from netfabric.plan.model import UNFIT, Kind, Own, PeerInput, PeerPlan, Plan
from netfabric.plan.spans import Mapping, Span, span, spans

POD, SERVICE, EXTERNAL = Kind.POD, Kind.SERVICE, Kind.EXTERNAL

# Few addresses, so that much overlaps; pools small enough to run out.
_TEN, _FD = span("10.0.0.0/8"), span("fd00::/16")


@st.composite
def networks(draw: st.DrawFn) -> Span:
    base = draw(st.sampled_from([_TEN, _FD]))
    bits = draw(st.integers(base.bits - 5, base.bits - 2))
    return Span(base.version, base.first + (draw(st.integers(0, 7)) << bits), bits)


strange = st.sampled_from(spans(["0.0.0.0/0", "::/0", "127.0.0.0/8", "224.0.0.0/8", "169.254.0.0/16", "fe80::/64"]))
kinds = st.sampled_from(list(Kind))
declared = st.lists(st.tuples(kinds, st.one_of(networks(), networks(), networks(), strange)), max_size=4).map(tuple)
owns = st.builds(
    Own,
    networks=st.lists(st.tuples(kinds, networks()), max_size=3).map(tuple),
    reserved=st.lists(networks(), max_size=2).map(lambda found: tuple(("a node's", one) for one in found)),
)
POOLS = tuple(spans(["10.192.0.0/10", "100.64.0.0/10", "fd80::/10"]))


@st.composite
def peers(draw: st.DrawFn, *, pins: bool = True, translates: bool = True) -> list[PeerInput]:
    made = []
    for number in range(draw(st.integers(0, 5))):
        wanted = draw(declared)
        places = {one: draw(networks()) for _, one in wanted if pins and draw(st.integers(0, 3)) == 0}
        made.append(
            PeerInput(
                name=f"p{number}",
                order=(str(draw(st.integers(0, 2))), f"p{number}"),
                networks=wanted,
                pins=places,
                pools=POOLS,
                translates=not translates or draw(st.integers(0, 3)) > 0,
                port=draw(st.sampled_from([None, None, 51820, 51821])),
            )
        )
    return made


def remember(found: Plan, given_peers: list[PeerInput]) -> list[PeerInput]:
    """The peers with what their statuses hold after this plan."""
    return [
        replace(
            peer,
            held={one.mapping.outer: one.mapping.inner for one in found.peers[peer.name].networks},
            held_port=found.peers[peer.name].port,
            held_number=found.peers[peer.name].number,
        )
        for peer in given_peers
    ]


def sound(own: Own, found: Plan) -> None:
    """Never two meanings of one address, and nothing unfit."""
    routes = [one.mapping.inner for peer in found.peers.values() for one in peer.open]
    for first, second in combinations(routes, 2):
        assert not first.overlaps(second)
    for route in routes:
        assert not any(route.overlaps(ours) for _, ours in own.named())
        assert not any(route.overlaps(one) for one in UNFIT)
        assert route.prefix >= 8
    ports = [peer.port for peer in found.peers.values() if peer.port]
    assert len(ports) == len(set(ports))
    assert len({peer.number for peer in found.peers.values()}) == len(found.peers)


@given(own=owns, given_peers=peers())
def test_no_address_has_two_meanings(own: Own, given_peers: list[PeerInput]) -> None:
    found = plan(own, given_peers)
    sound(own, found)
    for peer in given_peers:
        for one in found.peers[peer.name].networks:
            assert (one.kind, one.mapping.outer) in peer.networks
            if not peer.translates:
                assert one.mapping.inner == one.mapping.outer
        known = {one.mapping.outer for one in found.peers[peer.name].open}
        if any(wanted not in known for _, wanted in peer.networks):
            assert found.peers[peer.name].problems, "what is left out is told"
        assert all(problem.reason and problem.message for problem in found.peers[peer.name].problems)


@given(own=owns, given_peers=peers(), seed=st.integers(0, 100))
def test_the_order_of_reading_does_not_matter(own: Own, given_peers: list[PeerInput], seed: int) -> None:
    shuffled = list(given_peers)
    random.Random(seed).shuffle(shuffled)
    assert plan(own, shuffled) == plan(own, given_peers)


@given(own=owns, given_peers=peers(pins=False))
def test_a_plan_from_its_own_outcome_is_the_same(own: Own, given_peers: list[PeerInput]) -> None:
    first = plan(own, given_peers)
    assert plan(own, remember(first, given_peers)) == first


@given(own=owns, before=peers(), after=peers(), other=owns)
def test_what_is_in_use_is_never_moved(own: Own, before: list[PeerInput], after: list[PeerInput], other: Own) -> None:
    """Whatever else is declared, added, removed or renumbered: a network stays, falls silent, or is pinned."""
    held = {peer.name: peer for peer in remember(plan(own, before), before)}
    later = [
        replace(peer, held=held[peer.name].held, held_port=held[peer.name].held_port) if peer.name in held else peer
        for peer in after
    ]
    found = plan(other, later)
    sound(other, found)
    for peer in later:
        for one in found.peers[peer.name].networks:
            known = peer.held.get(one.mapping.outer)
            if known is not None and (peer.translates or known == one.mapping.outer):
                assert one.mapping.inner in (known, peer.pins.get(one.mapping.outer))


def peer(name: str, *cidrs: str, kind: Kind = POD, **more: object) -> PeerInput:
    return PeerInput(name=name, networks=tuple((kind, span(one)) for one in cidrs), **more)  # type: ignore[arg-type]


def seen(found: PeerPlan) -> dict[str, str]:
    return {str(one.mapping.outer): str(one.mapping.inner) for one in found.open}


OWN = Own(networks=((POD, span("10.0.0.0/16")), (SERVICE, span("10.96.0.0/12")), (POD, span("fd00::/56"))))


def test_f35_identical_clusters_see_each_other_as_others() -> None:
    both = peer("north", "10.0.0.0/16", "fd00::/56"), peer("south", "10.0.0.0/16", "fd00::/56")
    found = plan(OWN, both)
    assert seen(found.peers["north"]) == {"10.0.0.0/16": "100.64.0.0/16", "fd00::/56": "fd69:7374::/56"}
    assert seen(found.peers["south"]) == {"10.0.0.0/16": "100.65.0.0/16", "fd00::/56": "fd69:7374:0:100::/56"}
    assert not found.peers["north"].problems


def test_a_network_that_is_free_stands_for_itself() -> None:
    assert seen(plan(OWN, [peer("north", "10.1.0.0/16")]).peers["north"]) == {"10.1.0.0/16": "10.1.0.0/16"}


def test_f35_renumbering_of_ours_silences_what_is_in_its_way_and_says_what_to_do() -> None:
    north = peer("north", "10.1.0.0/16", held={span("10.1.0.0/16"): span("10.1.0.0/16")})
    renumbered = Own(networks=((POD, span("10.1.0.0/17")),))
    found = plan(renumbered, [north]).peers["north"]
    assert found.open == ()
    (problem,) = found.problems
    assert problem.reason == "AddressConflict"
    assert "10.1.0.0/16 stands for 10.1.0.0/16 and is this cluster's pod network 10.1.0.0/17" in problem.message
    assert found.networks[0].mapping.inner == span("10.1.0.0/16"), "it is remembered, in case that is taken back"
    pinned = replace(north, pins={span("10.1.0.0/16"): span("10.77.0.0/16")})
    assert seen(plan(renumbered, [pinned]).peers["north"]) == {"10.1.0.0/16": "10.77.0.0/16"}


def test_f35_a_node_that_joins_inside_a_peers_network() -> None:
    node = Own(networks=OWN.networks, reserved=(("the address of node worker-7", span("100.64.3.3/32")),))
    held = {span("10.0.0.0/16"): span("100.64.0.0/16")}
    found = plan(node, [peer("north", "10.0.0.0/16", held=held)]).peers["north"]
    assert "the address of node worker-7 100.64.3.3/32" in found.problems[0].message
    fresh = plan(node, [peer("north", "10.0.0.0/16")]).peers["north"]
    assert seen(fresh) == {"10.0.0.0/16": "100.65.0.0/16"}


@pytest.mark.parametrize("cidr", ["0.0.0.0/0", "::/0", "128.0.0.0/1", "127.0.0.0/8", "fe80::/64", "224.1.0.0/16"])
def test_a40_a_hostile_announcement_is_refused_and_the_rest_stays(cidr: str) -> None:
    found = plan(OWN, [peer("north", "10.1.0.0/16", cidr)]).peers["north"]
    assert seen(found) == {"10.1.0.0/16": "10.1.0.0/16"}
    assert [problem.reason for problem in found.problems] == ["UnfitNetwork"]
    assert cidr in found.problems[0].message


def test_a40_our_own_networks_announced_never_become_a_route() -> None:
    for cidr in ("10.0.0.0/16", "10.0.7.0/24", "10.96.0.0/12", "10.0.0.0/8"):
        (inner,) = seen(plan(OWN, [peer("north", cidr)]).peers["north"]).values() or [None]
        assert inner != cidr
    alone = plan(OWN, [peer("north", "10.0.7.0/24", translates=False)]).peers["north"]
    assert alone.open == ()
    assert alone.problems[0].reason == "OverlapWithoutTranslation"


def test_a40_a_peer_cannot_take_what_another_has() -> None:
    held = {span("10.1.0.0/16"): span("10.1.0.0/16")}
    older = peer("north", "10.1.0.0/16", order=("2", ""), held=held)
    thief = peer("aaa", "10.1.0.0/16", order=("1", ""), pins=held)
    found = plan(OWN, [thief, older])
    assert seen(found.peers["north"]) == {"10.1.0.0/16": "10.1.0.0/16"}
    assert seen(found.peers["aaa"]) == {}
    assert found.peers["aaa"].problems[0].reason == "PinRefused"
    assert "what stands for 10.1.0.0/16 of north" in found.peers["aaa"].problems[0].message


def test_what_overlaps_in_the_peer_itself_is_told_apart_by_its_kind() -> None:
    both = PeerInput(name="north", networks=((SERVICE, span("10.1.0.0/20")), (POD, span("10.1.0.0/16"))))
    found = plan(OWN, [both]).peers["north"]
    assert seen(found) == {"10.1.0.0/16": "10.1.0.0/16"}
    assert found.problems[0].reason == "PeerOverlap"


def test_pools_that_are_used_up_are_told() -> None:
    wanted = [peer(name, "10.0.0.0/16", pools=(span("10.200.0.0/16"),)) for name in ("a", "b")]
    found = plan(OWN, wanted)
    assert seen(found.peers["a"]) == {"10.0.0.0/16": "10.200.0.0/16"}
    assert found.peers["b"].problems[0].reason == "PoolExhausted"
    assert "/16 in place of 10.0.0.0/16" in found.peers["b"].problems[0].message


def test_our_own_networks_that_overlap_are_told() -> None:
    found = plan(Own(networks=((POD, span("10.0.0.0/16")), (EXTERNAL, span("10.0.9.0/24")))), [])
    assert [problem.reason for problem in found.problems] == ["LocalOverlap"]


def test_a_port_stays_and_two_never_have_the_same() -> None:
    found = plan(OWN, [peer("a", held_port=51821), peer("b"), peer("c"), peer("d", port=51821)])
    assert {name: one.port for name, one in found.peers.items()} == {"a": 51821, "b": 51820, "c": 51822, "d": 0}
    assert found.peers["d"].problems[0].reason == "PortTaken"


def test_mappings_must_fit() -> None:
    with pytest.raises(ValueError, match="differ in family or size"):
        Mapping(span("10.0.0.0/16"), span("10.0.0.0/17"))


def test_a_number_stays_and_two_never_have_the_same() -> None:
    found = plan(OWN, [peer("a", held_number=2), peer("b"), peer("c", held_number=2), peer("d", held_number=9999)])
    assert {name: one.number for name, one in found.peers.items()} == {"a": 2, "b": 1, "c": 3, "d": 4}
    many = plan(OWN, [peer(f"p{n}", port=n + 1) for n in range(4096)])
    assert [one.problems[0].reason for one in many.peers.values() if not one.number] == ["TooManyPeers"]
