"""Several links of one peer: which of them carry flows, and what that is in the kernel."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netfabric._pb import fabric_pb2 as pb
from netfabric.agent import firewall, kernel, reading, sharing
from netfabric.agent.diff import Do, LinkStep, RouteStep, difference
from netfabric.agent.errors import InvalidStateError
from netfabric.agent.kernel import Abilities, KernelRoute, KernelState
from netfabric.agent.model import Desired, WireGuardKind
from netfabric.agent.probing import Measured
from tests.unit.netfabric.agent import states

HERE = Abilities(wireguard=WireGuardKind.USERSPACE, geneve=False, vxlan=True, multipath=True)
NAMES = ("wg-b", "wg-b-1", "wg-b-2")
TABLE = kernel.TABLE_BASE + 7


def parallel(count: int) -> pb.DesiredState:
    """So many links to the peer, each probed."""
    state = states.gateway()
    for number in range(1, count):
        link = state.links.add(name=NAMES[number])
        link.CopyFrom(state.links[0])
        link.name, link.wireguard.listen_port = NAMES[number], 51820 + number
        link.addresses[:], link.neighbours[:] = [f"169.254.18.{4 * number + 1}/30"], [f"169.254.18.{4 * number + 2}"]
        state.peers[0].links.append(link.name)
    for number in range(count):
        state.probes.add(name=f"p{number}", address=f"169.254.18.{4 * number + 2}", port=7300)
    return state


def read(count: int) -> Desired:
    return reading.read(parallel(count))


def wanted(desired: Desired, *carrying: str) -> KernelState:
    known = {"b": carrying} if carrying else None
    return kernel.wanted(desired, abilities=HERE, outer_mtus={}, carrying=known)


def ways(state: KernelState) -> dict[int, KernelRoute]:
    """By family, the route to the peer."""
    return {one.prefix.version: one for one in state.routes if one.table == TABLE and one.link}


def measured(desired: Desired, *found: bool | None) -> list[Measured]:
    """What probes found: passing, broken, or nothing yet."""
    made = []
    for target, passing in zip(desired.probes, found, strict=True):
        one = Measured(target)
        for _ in range(0 if passing is None else target.lost_after):
            one.record(0.001 if passing else None)
        made.append(one)
    return made


def carrying(desired: Desired, present: KernelState, *found: bool | None) -> tuple[str, ...]:
    return sharing.carrying(desired, present, sharing.verdicts(desired, measured(desired, *found)))["b"]


def test_a_new_link_joins_with_its_first_answer_and_a_silent_one_leaves() -> None:
    desired = read(3)
    alone = wanted(read(1))
    assert carrying(desired, alone, True, None, None) == ("wg-b",)
    assert carrying(desired, alone, True, True, None) == ("wg-b", "wg-b-1")
    assert carrying(desired, wanted(desired), True, True, True) == NAMES
    assert carrying(desired, wanted(desired), True, False, True) == ("wg-b", "wg-b-2")
    assert carrying(desired, wanted(desired), False, True, True) == ("wg-b-1", "wg-b-2"), "the first is as any"


def test_a_new_process_leaves_the_kernel_as_it_is_until_it_knows() -> None:
    desired = read(3)
    present = wanted(desired, "wg-b", "wg-b-2")
    assert carrying(desired, present, None, None, None) == ("wg-b", "wg-b-2")
    assert carrying(desired, KernelState(), None, None, None) == ("wg-b",), "an empty kernel begins with one"
    assert carrying(desired, present, False, False, False) == ("wg-b",)


def test_links_that_nobody_probes_are_thought_good() -> None:
    state = parallel(2)
    del state.probes[:]
    desired = reading.read(state)
    assert sharing.carrying(desired, KernelState(), sharing.verdicts(desired, ())) == {"b": ("wg-b", "wg-b-1")}


@given(st.lists(st.sampled_from([True, False, None]), min_size=3, max_size=3), st.booleans())
def test_there_is_always_one_and_no_broken_one_beside_a_good_one(found: list[bool | None], made: bool) -> None:
    desired = read(3)
    used = carrying(desired, wanted(desired) if made else KernelState(), *found)
    assert used
    verdict = dict(zip(NAMES, found, strict=True))
    if True in found:
        assert not any(verdict[name] is False for name in used)
        assert {name for name in NAMES if verdict[name]} <= set(used)


def test_one_link_is_in_the_kernel_as_it_always_was() -> None:
    desired = read(1)
    assert sharing.carrying(desired, KernelState(), {}) == {}
    everything = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}
    assert ways(wanted(desired)) == {
        version: KernelRoute(prefix=everything[version], table=TABLE, link="wg-b", metric={4: 0, 6: 1024}[version])
        for version in (4, 6)
    }
    assert not any("multipath" in path for path in kernel.sysctls(desired))


def test_several_links_are_one_route_and_flows_are_told_apart_by_ports() -> None:
    desired = read(3)
    found = ways(wanted(desired))
    assert [found[version].links for version in (4, 6)] == [NAMES, NAMES]
    assert (found[4].via, found[6].via) == (None, ip_address("fe80::1")), "IPv6 shares no route without a next hop"
    settings = kernel.sysctls(desired)
    assert settings["ipv4/fib_multipath_hash_policy"] == settings["ipv6/fib_multipath_hash_policy"] == "1"
    assert all(settings[f"ipv4/conf/{name}/{key}"] == value for name in NAMES for key, value in _OPEN.items())


_OPEN = {"accept_local": "1", "rp_filter": "0"}


def test_a_link_leaves_the_route_before_it_is_removed() -> None:
    """IPv4 removes a route with several links when one of them goes."""
    steps, _ = difference(wanted(read(3)), wanted(read(1)))
    changed = [n for n, one in enumerate(steps) if isinstance(one, RouteStep)]
    gone = [n for n, one in enumerate(steps) if isinstance(one, LinkStep)]
    assert all(isinstance(one, RouteStep) and one.do is Do.CHANGE for one in (steps[n] for n in changed))
    assert (len(changed), len(gone)) == (2, 2)
    assert max(changed) < min(gone)


def test_a_healthy_kernel_and_an_unhealthy_one() -> None:
    state = wanted(read(3))
    assert difference(state, state) == ([], [])
    less = KernelState(links=state.links, addresses=state.addresses, routes=wanted(read(3), "wg-b").routes)
    steps, _ = difference(less, state)
    assert sum(isinstance(one, RouteStep) for one in steps) == 2


def test_a_peers_links_meet_the_same_rules_as_one() -> None:
    def rules(count: int) -> list[object]:
        found = [one["rule"] for one in firewall.render(read(count)) if "rule" in one]
        return [(one["chain"], len(one["expr"])) for one in found]

    assert rules(3) == rules(1), "as many rules, in the same chains"
    text = json.dumps(firewall.render(read(3)))
    for name in NAMES:
        # Set of tunnels, clamp both ways, the chains from, to, ask and back, and the mark of the flow's opener.
        assert text.count(f'"{name}"') == 8, name


@pytest.mark.parametrize("links", [[], [f"l{n}" for n in range(9)]])
def test_a_peer_has_one_link_to_eight(links: list[str]) -> None:
    state = states.gateway()
    state.peers[0].links[:] = links
    with pytest.raises(InvalidStateError, match=rf"peers\[0\]\.links: has {len(links)} entries; expected 1 to 8"):
        reading.read(state)


def test_only_wireguard_shares() -> None:
    state = states.gateway()
    state.links.add(name="vx", overlay=pb.Overlay(local="10.9.0.1", remote="10.9.0.3", vni=5))
    state.peers[0].links.append("vx")
    with pytest.raises(InvalidStateError, match=r"peers\[0\]\.links\[1\]: 'vx' is not WireGuard"):
        reading.read(state)
