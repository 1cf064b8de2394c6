"""What peers, nodes and addresses come to in a kernel, as docs/network.md has it: counts, never times."""

from __future__ import annotations

import pytest

from netfabric._pb import fabric_pb2 as pb
from netfabric.controller import desired
from tests import firewalls
from tests.lab.fabric.scale import ROLES, agent_of, counted, exporting, listed
from tests.lab.fabric.world import AgentProcess, World
from tests.unit.netfabric.controller.worlds import sized


def applied(agent: AgentProcess, *, peers: int, nodes: int) -> dict[str, int]:
    """Objects in its kernel. Tunnels are VXLAN's: the kernel makes them at once, and they count as any other."""
    able = frozenset(agent.watch().capabilities) - {"geneve"}
    known = sized(peers, nodes=nodes, capabilities=able, technology="VXLAN")
    make = {"gateway": (desired.gateway, known.gateways), "node": (desired.node, known.nodes)}
    compute, those = make[agent.role]
    agent.apply(compute(known, those[0]))
    return counted(agent.place, number=1)


@pytest.mark.parametrize("role", ["gateway", "node"])
def test_the_kernel_holds_what_a_peer_and_a_node_cost_and_no_more(world: World, role: str) -> None:
    with agent_of(role, folder=world.folder, prefork=world.prefork) as agent:
        few, many = applied(agent, peers=3, nodes=4), applied(agent, peers=23, nodes=14)
        grown = {key: many[key] - few[key] for key in few}
        if role == "node":
            assert grown == dict.fromkeys(grown, 0) | {"routes": 20 * 3}
            return
        assert (grown["links"], grown["rules"], grown["met"]) == (20 + 10, 20 * 2, 0)
        assert grown["routes"] == 20 * 4 + 10 * 2
        assert grown["firewall"] % 20 == 0
        more = applied(agent, peers=43, nodes=14)
        assert more["firewall"] - many["firewall"] == grown["firewall"]
        agent.apply(pb.DesiredState(role=ROLES[role]))
        assert not any(counted(agent.place, number=1).values())


def test_addresses_are_elements_of_the_kernels_maps_and_no_rules(world: World) -> None:
    agent = world.west.gateway_agent
    found = {}
    try:
        for count in (1, 1000):
            agent.apply(exporting(world, count))
            found[count] = listed(agent.place)
        assert firewalls.rules(found[1]) == firewalls.rules(found[1000])
        assert firewalls.elements(found[1000]) - firewalls.elements(found[1]) >= 999
        assert world.east.pings("10.72.64.0"), "the pod, by the address that is exported"
    finally:
        agent.apply(world.gateway_state(world.west))
