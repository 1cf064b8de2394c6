"""Three clusters with the same addresses: the one in the middle talks to both others, and they not to each other."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from netfabric._pb import fabric_pb2 as pb
from tests.lab.fabric.places import Place, join, wait
from tests.lab.fabric.world import (
    POD,
    PODS,
    PORT,
    PROBES,
    TRAFFIC,
    WIREGUARD,
    AgentProcess,
    World,
    keypair,
    serving,
)

SOUTH, WEST = "10.73.0.0/16", "10.74.0.0/16"
"""The south as the west sees it, and the west as the south sees it."""
_SOUTH_POD, _WEST_POD = "10.73.1.5", "10.74.1.5"


class South:
    """A third cluster with a pod behind its gateway; it dials the west."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.gateway, self.pod = Place("south-gateway"), Place("south-pod")
        self.keys, self.west_keys = keypair(), keypair()
        self.agent = AgentProcess(self.gateway, role="gateway", folder=folder, prefork=world.prefork)

    def up(self) -> None:
        join(self.world.router, "to-south", self.gateway, "wan")
        self.world.router.ip("address add 10.0.3.1/24 dev to-south")
        self.gateway.ip("address add 10.0.3.2/24 dev wan", "route add default via 10.0.3.1")
        join(self.gateway, "to-pod", self.pod, "eth0")
        self.gateway.ip("address add 10.244.1.1/24 dev to-pod")
        self.pod.ip(f"address add {POD}/24 dev eth0", "route add default via 10.244.1.1")
        self.agent.start()
        self.agent.ready()
        self.agent.apply(self.state())

    def state(self) -> pb.DesiredState:
        """What its gateway is told."""
        return pb.DesiredState(
            role=pb.ROLE_GATEWAY,
            links=[self._link("wg-west", mine="2", theirs="1", endpoint=f"10.0.1.2:{WIREGUARD + 1}")],
            peers=[self._peer("west", seen=WEST)],
            local_prefixes=[PODS],
            responder_port=PROBES,
        )

    def west_gateway(self) -> pb.DesiredState:
        """What the west's gateway is told, the east included."""
        state = self.world.gateway_state(self.world.west)
        state.links.append(self._link("wg-south", mine="1", theirs="2"))
        state.peers.append(self._peer("south", seen=SOUTH))
        return state

    def west_node(self) -> pb.DesiredState:
        """What the west's node is told."""
        state = self.world.node_state(self.world.west)
        state.routes.add(prefix=SOUTH, link="un-gw", via="169.254.20.1")
        return state

    def close(self) -> None:
        if self.agent.process is not None:
            self.agent.kill()
        for place in (self.pod, self.gateway):
            place.close()

    def _link(self, name: str, *, mine: str, theirs: str, endpoint: str = "") -> pb.Link:
        ours, other = (self.keys, self.west_keys) if endpoint else (self.west_keys, self.keys)
        peer = pb.WireGuardPeer(
            public_key=other[1],
            endpoint=endpoint,
            allowed_ips=[PODS, f"169.254.19.{theirs}/32"],
            keepalive_seconds=5 if endpoint else 0,
        )
        port = WIREGUARD if endpoint else WIREGUARD + 1
        tunnel = pb.WireGuard(private_key=pb.Key(value=ours[0]), listen_port=port, peers=[peer])
        addresses, neighbours = [f"169.254.19.{mine}/30"], [f"169.254.19.{theirs}"]
        return pb.Link(name=name, addresses=addresses, neighbours=neighbours, wireguard=tunnel)

    def _peer(self, name: str, *, seen: str) -> pb.Peer:
        policy = pb.Policy(reachable=[PODS], openers=[PODS])
        prefixes = [pb.PrefixMap(real=PODS, seen=seen)]
        return pb.Peer(name=name, number=8, links=[f"wg-{name}"], prefixes=prefixes, policy=policy)


@pytest.fixture(scope="module")
def south(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[South]:
    made = South(world, world.folder)
    try:
        made.up()
        with serving(made.pod, PORT):
            yield made
    finally:
        made.close()
        world.router.run(["ip", "link", "del", "to-south"], check=False)
        world.west.gateway_agent.apply(world.gateway_state(world.west))
        world.west.node_agent.apply(world.node_state(world.west))
        world.await_connected(timeout=40)


def test_f35_three_clusters_with_the_same_addresses(world: World, south: South) -> None:
    west, east = world.clusters
    with world.stream(west) as stream:
        west.gateway_agent.apply(south.west_gateway())
        west.node_agent.apply(south.west_node())
        wait(lambda: west.pings(_SOUTH_POD), what="pings to the south", timeout=60)
        # To both from one port, and from both, which have one address and here also one port.
        ways = [(west.pod, west.remote), (west.pod, _SOUTH_POD), (east.pod, east.remote), (south.pod, _WEST_POD)]
        for place, address in ways:
            assert asks(place, "tcp", address, PORT, 100_000, 7100) == "100000"
        assert asks(east.pod, "peer", east.remote, PORT) == "10.71.1.5"
        assert asks(south.pod, "peer", _WEST_POD, PORT) == _SOUTH_POD
        assert world.connected()
    assert not stream["error"]


def test_a40_one_peer_does_not_reach_another_through_us(world: World, south: South) -> None:
    """The south knows by which addresses the west sees the east, and asks for them."""
    west = world.west
    west.gateway_agent.apply(south.west_gateway())
    west.node_agent.apply(south.west_node())
    wait(lambda: west.pings(_SOUTH_POD), what="pings to the south", timeout=60)
    state = south.state()
    east = "10.71.0.0/16"
    state.links[0].wireguard.peers[0].allowed_ips.append(east)
    state.peers[0].prefixes.add(real=east, seen=east)
    state.peers[0].policy.openers.append(east)
    south.agent.apply(state)
    before = west.gateway_agent.dropped("transit")
    assert not south.pod.succeeds(["ping", "-q", "-c", "3", "-i", "0.2", "-W", "1", west.remote])
    assert west.gateway_agent.dropped("transit") > before


def asks(place: Place, *words: str | int) -> str:
    """What traffic.py says there."""
    return place.run([sys.executable, TRAFFIC, *(str(word) for word in words)]).strip()
