"""What agents are told: that both ends fit, that agents take it, and how it grows."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netfabric._pb import fabric_pb2 as pb
from netfabric.agent import firewall, kernel, reading
from netfabric.controller import desired, links
from netfabric.controller.facts import Offloaded, World
from netfabric.controller.world import set_apart
from netfabric.plan.model import Own, PeerInput
from tests.unit.netfabric.controller.worlds import alike, gateways, key, nodes, world
from tests.unit.netfabric.plan.test_allocation import owns, peers


def states(known: World) -> list[pb.DesiredState]:
    made = [desired.gateway(known, one) for one in known.gateways] + [desired.node(known, one) for one in known.nodes]
    for state in made:
        state.term = state.generation = 1
    return made


@settings(max_examples=60)
@given(own=owns, inputs=peers(), whole=st.booleans())
def test_a40_agents_take_whatever_is_planned(own: Own, inputs: list[PeerInput], whole: bool) -> None:
    """The agents' own checks refuse two meanings of an address, foreign routes and the like: none is ever planned."""
    known = replace(world(inputs, own=own, whole=whole), pod_networks={})
    for state in states(known):
        reading.read(state)


def test_both_ends_of_each_link_fit() -> None:
    known = world(alike(2))
    for gate in known.gateways:
        for node in known.nodes:
            (here,) = (x for x in desired.gateway(known, gate).links if x.name == links.node_link(node.number))
            (there,) = (x for x in desired.node(known, node).links if x.name == links.gateway_link(gate.number))
            assert (here.overlay.local, here.overlay.remote) == (there.overlay.remote, there.overlay.local)
            assert (here.overlay.vni, here.overlay.technology) == (there.overlay.vni, there.overlay.technology)
            assert [str(ip_interface(one).ip) for one in here.addresses] == list(there.neighbours)
            assert [str(ip_interface(one).ip) for one in there.addresses] == list(here.neighbours)


def test_without_peers_nobody_has_anything_in_its_kernel() -> None:
    """So that agents that are removed afterwards leave nothing."""
    for state in states(world([])):
        read = reading.read(state)
        assert not read.links
        assert not firewall.render(read)
        assert not kernel.sysctls(read)


def test_no_two_links_share_an_address_or_identifier() -> None:
    ends = [links.inside(gate, node, version=4) for gate in range(4) for node in (1, 2, 2046, 2047)]
    assert len({one for end in ends for one in end[:2]}) == 2 * len(ends)
    inside = [ip_network(one) for one in links.INSIDE]
    for version in (4, 6):
        every = [links.inside(gate, node, version=version) for gate in range(4) for node in (1, 2047)]
        assert all(ip_interface(end.ours) in net for end in every for net in inside if net.version == version)
    assert len({links.vni(gate, node) for gate in range(4) for node in range(1, 2048)}) == 4 * 2047


def test_a_tunnels_ends_come_from_both_keys_alone() -> None:
    ours, theirs = key("a").public, key("b").public
    assert links.tunnel(ours, theirs) == links.tunnel(theirs, ours).reversed
    assert links.tunnel(ours, theirs) != links.tunnel(ours, key("c").public)
    assert links.tunnel_vni(ours, theirs) == links.tunnel_vni(theirs, ours)


@pytest.mark.parametrize(
    ("node", "expected"),
    [({"vxlan"}, pb.Overlay.VXLAN), ({"vxlan", "geneve"}, pb.Overlay.GENEVE), ({"geneve"}, pb.Overlay.GENEVE)],
)
def test_vxlan_where_a_kernel_has_no_geneve(node: set[str], expected: int) -> None:
    known = replace(world(alike(1)), nodes=nodes(1, capabilities=frozenset(node)))
    assert desired.node(known, known.nodes[0]).links[0].overlay.technology == expected
    unheard = replace(known, nodes=nodes(1, capabilities=frozenset()))
    assert not desired.node(unheard, unheard.nodes[0]).links


def test_whoever_waits_has_all_but_what_only_one_may_do() -> None:
    known = world(alike(1))
    active, waiting = (desired.gateway(known, one) for one in known.gateways)
    assert (active.standby, waiting.standby) == (False, True)
    assert active.links[-1].wireguard == waiting.links[-1].wireguard, "keys and ports are kept by a takeover"
    assert active.peers == waiting.peers


def test_a_node_goes_through_the_active_gateway_only() -> None:
    known = world(alike(1))
    before = desired.node(known, known.nodes[0])
    after = desired.node(replace(known, active="gw-1"), known.nodes[0])
    assert {route.link for route in before.routes} == {links.gateway_link(0)}
    assert {route.link for route in after.routes} == {links.gateway_link(1)}
    assert before.links == after.links, "a takeover makes no link"
    assert not desired.node(replace(known, active=""), known.nodes[0]).routes


def test_what_is_no_pod_goes_out_by_an_address_that_the_peer_knows() -> None:
    known = world(alike(1))
    found = {one.address for one in desired.gateway(known, known.gateways[0]).masquerades}
    assert found == {"10.250.0.1"}
    bare = replace(known, sources={})
    assert {one.address for one in desired.gateway(bare, bare.gateways[0]).masquerades} == {"10.0.255.1"}


def policy(*, whole: bool = False, here: str = "", there: str = "") -> pb.Policy:
    known = world(alike(1), whole=whole)
    offloaded = Offloaded(here=frozenset(here.split()), there=frozenset(there.split()))
    known = replace(known, peers=(replace(known.peers[0], offloaded=offloaded),))
    return desired.gateway(known, gateways(1)[0]).peers[0].policy


def test_a40_nothing_passes_where_nothing_is_offloaded() -> None:
    made = policy()
    assert not [*made.reachable, *made.openers, *made.sources, *made.destinations]
    assert list(made.unreachable) == ["10.96.0.1/32"]


def test_a_consumer_lets_its_own_pods_at_the_provider_in_and_nobody_else() -> None:
    made = policy(there="100.64.3.4 100.64.3.5 9.9.9.9")
    assert list(made.sources) == list(made.destinations) == ["10.0.3.4/31"], "as the provider has them"
    assert made.reachable == ["10.0.0.0/16", "fd00:10::/56"]


def test_a_provider_opens_the_consumers_pods_and_nothing_of_its_own() -> None:
    made = policy(here="10.0.7.7 10.0.7.9")
    assert list(made.reachable) == list(made.openers) == ["10.0.7.7/32", "10.0.7.9/32"]
    assert not made.sources


def test_the_whole_cluster_by_choice_but_for_the_api_server() -> None:
    made = policy(whole=True)
    assert {"10.0.0.0/16", "10.96.0.0/16"} <= set(made.reachable)
    assert list(made.unreachable) == ["10.96.0.1/32"]


def test_two_tunnels_never_get_the_same_addresses() -> None:
    one = world(alike(1)).peers[0]
    kept, problems = set_apart([one, replace(one, name="twin", number=7), None])
    assert [peer.name for peer in kept] == ["peer-0"]
    assert problems["twin"].reason == "TunnelAddressTaken"


def test_technology_none_needs_no_agents() -> None:
    known = world(alike(1))
    none = replace(known, peers=(replace(known.peers[0], technology="None"),))
    assert not desired.gateway(none, none.gateways[0]).peers
    assert not desired.node(none, none.nodes[0]).routes


def test_vxlan_between_clusters_that_trust_their_underlay() -> None:
    known = world(alike(1))
    plain = replace(known.peers[0], technology="VXLAN", endpoint="198.18.0.9:51820")
    state = desired.gateway(replace(known, peers=(plain,)), known.gateways[0])
    state.term = state.generation = 1
    reading.read(state)
    overlay = state.links[-1].overlay
    assert (overlay.local, overlay.remote, overlay.port) == ("10.0.255.1", "198.18.0.9", 51820)


def sizes(count: int, width: int) -> dict[str, int]:
    """How much a node and a gateway are told, with so many peers and nodes."""
    known = world(alike(count), count=width)
    node, gate = desired.node(known, known.nodes[0]), desired.gateway(known, known.gateways[0])
    return {
        "peers": len(known.peers),
        "node routes": len(node.routes),
        "node links": len(node.links),
        "node bytes": node.ByteSize(),
        "gateway links": len(gate.links),
        "gateway routes": len(gate.routes),
        "gateway bytes": gate.ByteSize(),
    }


def test_what_a_node_is_told_grows_with_peers_and_not_with_nodes() -> None:
    few, wide, many = sizes(10, 5), sizes(10, 100), sizes(100, 5)
    assert wide["node routes"] == few["node routes"] == 3 * few["peers"]
    assert wide["node links"] == many["node links"] == 2
    assert abs(wide["node bytes"] - few["node bytes"]) < 50
    assert many["node routes"] == 3 * many["peers"]


def test_what_a_gateway_is_told_grows_with_both_and_not_with_their_product() -> None:
    few, wide, many, both = sizes(10, 10), sizes(10, 100), sizes(100, 10), sizes(100, 100)
    assert both["gateway links"] == 100 + both["peers"]
    assert both["gateway routes"] == 100
    grown = (wide["gateway bytes"] - few["gateway bytes"]) + (many["gateway bytes"] - few["gateway bytes"])
    assert both["gateway bytes"] - few["gateway bytes"] <= 1.1 * grown


def test_peers_are_answered_by_a_node_that_is_reached() -> None:
    known = world(alike(1))
    first, second = known.nodes[:2]

    def target(known: World, gate: int) -> set[str]:
        return {one.target for one in desired.gateway(known, known.gateways[gate]).probe_answers}

    def ends(node: int, *, gate: int) -> set[str]:
        return {links.inside(gate, node, version=version).theirs for version in (4, 6)}

    made = desired.gateway(replace(known, reached=frozenset({second.name})), known.gateways[0])
    assert {one.shown for one in made.probe_answers} == {"10.0.0.0", "fd00:10::"}
    for gate in (0, 1):
        assert target(replace(known, reached=frozenset({second.name})), gate) == ends(second.number, gate=gate)
        assert target(replace(known, reached=frozenset({first.name, second.name})), gate) == ends(1, gate=gate)
        assert target(known, gate) == ends(1, gate=gate), "no answer is the truth where no node is reached"
    assert not desired.gateway(replace(known, nodes=()), known.gateways[0]).probe_answers


def test_our_pods_may_ask_where_a_peer_answers_and_no_more() -> None:
    known = world(alike(1), whole=False)
    made = desired.gateway(known, known.gateways[0]).peers[0].policy
    assert (list(made.probed), list(made.askers)) == (["10.0.0.0", "fd00:10::"], ["10.0.0.0/16", "fd00:10::/56"])
    assert not [*made.openers, *made.reachable, *made.destinations]
    silent = replace(known, peers=(replace(known.peers[0], probed=()),))
    assert not desired.gateway(silent, silent.gateways[0]).peers[0].policy.askers
