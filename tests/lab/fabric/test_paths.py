"""Pods of two clusters with the same addresses reach each other, both ways, in both families."""

from __future__ import annotations

import pytest

from netfabric._pb import fabric_pb2 as pb
from tests.lab.fabric.world import PODS, PODS6, PORT, World, keypair


@pytest.mark.parametrize("side", ["west", "east"])
@pytest.mark.parametrize("version", [4, 6])
def test_pod_to_pod(world: World, side: str, version: int) -> None:
    cluster = getattr(world, side)
    address = cluster.remote if version == 4 else cluster.remote6
    assert cluster.pings(address)
    assert cluster.pod.run(cluster.traffic("tcp", address, PORT, 300_000)).strip() == "300000"
    assert cluster.pod.run(cluster.traffic("udp", address, PORT, 1000)).strip() == "1000"


def test_a_second_peer_with_the_same_addresses_changes_nothing_for_the_first(world: World) -> None:
    """Flows of both are told apart by conntrack zone from then on; those of the first go on, both ways."""
    agent = world.west.gateway_agent
    state = world.gateway_state(world.west)
    link = state.links.add(name="wg-south", addresses=["169.254.19.1/30"], neighbours=["169.254.19.2"])
    link.wireguard.private_key.value = keypair()[0]
    link.wireguard.peers.add(public_key=keypair()[1], allowed_ips=[PODS, PODS6])
    policy = pb.Policy(reachable=[PODS, PODS6], openers=[PODS, PODS6])
    maps = [pb.PrefixMap(real=PODS, seen="10.73.0.0/16"), pb.PrefixMap(real=PODS6, seen="fd73::/48")]
    state.peers.add(name="south", number=8, links=["wg-south"], prefixes=maps, policy=policy)
    try:
        agent.apply(state)
        assert agent.place.run(["nft", "list", "chain", "inet", "isthmus", "raw"]).count("ct zone set") == 3
        for cluster in world.clusters:
            assert cluster.pings(cluster.remote, count=3)
            assert cluster.pings(cluster.remote6, count=3)
            assert cluster.pod.run(cluster.traffic("tcp", cluster.remote, PORT, 100_000)).strip() == "100000"
        assert not world.west.pings("10.73.1.5"), "the second peer is not there"
    finally:
        agent.apply(world.gateway_state(world.west))
