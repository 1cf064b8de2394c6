"""What peers, nodes and addresses come to in a gateway's and a node's firewall and routes: counts, never times."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest

from netfabric._pb import fabric_pb2 as pb
from netfabric.agent import firewall, kernel, reading
from netfabric.agent.model import Desired, WireGuardKind
from netfabric.controller import desired
from tests import firewalls
from tests.unit.netfabric.agent.states import gateway
from tests.unit.netfabric.controller.worlds import sized

ABILITIES = kernel.Abilities(wireguard=WireGuardKind.USERSPACE, geneve=True, vxlan=True)
MOST = 10_000


def of_gateway(peers: int, *, nodes: int) -> Desired:
    known = sized(peers, nodes=nodes)
    return read(desired.gateway(known, known.gateways[0]))


def of_node(peers: int, *, nodes: int) -> Desired:
    known = sized(peers, nodes=nodes)
    return read(desired.node(known, known.nodes[0]))


def read(state: pb.DesiredState) -> Desired:
    state.term = state.generation = 1
    return reading.read(state)


def test_a_packet_meets_the_same_rules_whatever_the_number_of_peers() -> None:
    tables = [firewall.render(of_gateway(peers, nodes=2)) for peers in (2, 10, 50)]
    assert len({firewalls.met(table, 1) for table in tables}) == 1


def test_rules_and_elements_grow_with_peers_and_not_with_their_square() -> None:
    ten, twenty, forty = (firewall.render(of_gateway(peers, nodes=2)) for peers in (10, 20, 40))
    for count in (firewalls.rules, firewalls.elements):
        assert count(forty) - count(twenty) == 2 * (count(twenty) - count(ten))


def test_a_gateways_nodes_are_elements_and_no_rules() -> None:
    few, many = (firewall.render(of_gateway(2, nodes=nodes)) for nodes in (5, 50))
    assert firewalls.rules(few) == firewalls.rules(many)
    assert firewalls.elements(many) - firewalls.elements(few) <= 45 * 5


def test_a_nodes_firewall_knows_neither_peers_nor_nodes() -> None:
    few, many = (firewall.render(of_node(size, nodes=size)) for size in (2, 50))
    assert few == many


@pytest.mark.parametrize(("peers", "nodes"), [(2, 2), (20, 30)])
def test_routes_and_rules_of_the_kernel(peers: int, nodes: int) -> None:
    """As docs/network.md says: here a peer has three ranges in two families, a node one range."""
    gate = kernel.wanted(of_gateway(peers, nodes=nodes), abilities=ABILITIES, outer_mtus={})
    assert len(gate.links) == peers + nodes
    assert len(gate.rules) == 2 * peers + 3
    assert len(gate.routes) == 2 * 2 * peers + 2 * nodes
    node = kernel.wanted(of_node(peers, nodes=nodes), abilities=ABILITIES, outer_mtus={})
    assert (len(node.links), len(node.rules), len(node.routes)) == (2, 0, 3 * peers)


def exporting(count: int) -> list[dict[str, Any]]:
    """A gateway's table with so many addresses of others, all of which the peer may reach."""
    state = gateway()
    for number in range(count):
        shown, target = IPv4Address("10.244.64.0") + number, IPv4Address("198.18.0.0") + 2 * number
        state.exports.add(shown=f"{shown}/32", target=f"{target}/32", masquerade=True)
        state.peers[0].policy.reachable.append(f"{target}/32")
    return firewall.render(reading.read(state))


def test_addresses_are_elements_and_no_rules() -> None:
    one, many = exporting(1), exporting(MOST)
    assert firewalls.rules(one) == firewalls.rules(many)
    assert firewalls.elements(many) - firewalls.elements(one) == 3 * (MOST - 1), "translated, masqueraded, allowed"
