"""From two NetworkPeerings to packets between pods: the product's manager and agents in two clusters."""

from __future__ import annotations

import itertools
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.lab import packages, testing
from deploy.lab.settings import LabSettings
from netfabric.plan.probes import RESPONDER_PORT
from tests.kubectl import eventually
from tests.lab.fabric.agents import Json
from tests.lab.fabric.clusters import SEEN, Clusters, Side
from tests.lab.fabric.exchange import LONG
from tests.lab.fabric.places import wait
from tests.lab.fabric.services import NODE_PORT, SERVICE, SERVICE6, external_address, naming
from tests.lab.fabric.virtual import Break, VirtualNode, cut, full_size, gateway_there, node_there, virtual_node
from tests.lab.fabric.world import POD, POD6, PORT, TRAFFIC

NAME = "db.shop.svc.cluster.local"
TAKEOVER_SECONDS = 10.0
"""It takes about 3 s, 8 s at a load of 37 on two processors, and 15 s where WireGuard alone notices."""


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clusters]:
    """Connected; a test leaves them so."""
    packages.ensure_fabric()
    with testing.temporary(LabSettings(nodes=0), number=20) as lab:
        made = Clusters(lab, tmp_path_factory.mktemp("clusters"))
        try:
            made.up()
            made.peer()
            yield made
        finally:
            made.down()


@pytest.fixture(scope="module", autouse=True)
def virtual(clusters: Clusters, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualNode]:
    """The west's for the east; it starts while other tests run."""
    with virtual_node(clusters.west, clusters.east, tmp_path_factory.mktemp("v")) as made:
        yield made


@pytest.fixture
def node(virtual: VirtualNode) -> VirtualNode:
    """Pods there are reached; a test leaves it so."""
    virtual.until("PathPasses")
    return virtual


def connected(condition: Json) -> bool:
    return bool(condition["status"] == "True")


def joined(clusters: Clusters) -> bool:
    return all(side.pings() for side in clusters.sides)


def pair(clusters: Clusters, name: str) -> tuple[Side, Side]:
    """A side by its name, and the other one."""
    west, east = clusters.sides
    return (west, east) if name == "west" else (east, west)


SIDES = pytest.mark.parametrize("name", ["west", "east"])
VERSIONS = pytest.mark.parametrize("version", [4, 6])
"""Of IP."""


@SIDES
@VERSIONS
def test_pods_and_services_of_two_clusters_reach_each_other(clusters: Clusters, name: str, version: int) -> None:
    side, other = pair(clusters, name)
    pod, service = (side.seen(one) for one in ((POD, SERVICE) if version == 4 else (POD6, SERVICE6)))
    for address in (pod, service):
        assert side.asks("tcp", address, PORT, 300_000) == "300000"
        assert side.asks("udp", address, PORT, 1000) == "1000"
    assert side.asks("peer", pod, PORT) == other.seen(POD if version == 4 else POD6), "the source is the pod's own"


@SIDES
@VERSIONS
def test_a_pod_is_reached_whose_address_is_that_of_a_gateway_here(clusters: Clusters, name: str, version: int) -> None:
    """Clusters with the same addresses have that; and where it answers, its source is taken for what it is."""
    side, other = pair(clusters, name)
    own = side.agents[side.active(other.name)].address
    address = own if version == 4 else f"fd24:0:0:1::{own.rpartition('.')[2]}"
    other.also_at(address)
    assert side.asks("tcp", side.seen(address), PORT, 300_000) == "300000"


@SIDES
@VERSIONS
def test_hosts_reach_pods_and_services_of_another_cluster(clusters: Clusters, name: str, version: int) -> None:
    """By the one address that stands for all that is no pod: the other side knows a way back to it."""
    side, other = pair(clusters, name)
    pod, service = (side.seen(one) for one in ((POD, SERVICE) if version == 4 else (POD6, SERVICE6)))
    for address in (pod, service):
        assert side.asks("tcp", address, PORT, 300_000, place=side.node) == "300000"
        assert side.asks("udp", address, PORT, 1000, place=side.node) == "1000"
    source = other.seen(("10.250.0.1", "fd25::1")[version == 6])
    assert side.asks("peer", pod, PORT, place=side.node) == source


@SIDES
def test_names_are_asked_of_another_cluster_and_their_pods_reached(
    clusters: Clusters, name: str, tmp_path: Path
) -> None:
    """DNS by UDP and TCP at a cluster IP, as for a headless Service: then its pods, by the addresses in the answer."""
    side, other = pair(clusters, name)
    addresses = [side.seen(POD), side.seen(POD6)]
    with naming(other.pod, tmp_path, name=NAME, addresses=addresses):
        for server in (SERVICE, SERVICE6, POD, POD6):
            for kind, version in itertools.product(("udp", "tcp"), (4, 6)):
                found = side.asks("dns", kind, side.seen(server), NAME, version)
                assert found == addresses[version == 6], (server, kind, version)
                assert side.asks("tcp", found, PORT, 1000) == "1000"


@VERSIONS
def test_a_node_port_is_reached_by_an_external_address_and_not_otherwise(clusters: Clusters, version: int) -> None:
    """Nodes are no part of what clusters show each other."""
    west, east = clusters.sides
    name, node = f"node-{version}", east.node_addresses[version == 6]
    east.kubectl.apply(external_address(name, node))
    told = east.kubectl.wait_for("externaladdress", name, lambda one: one["status"]["address"])
    address = west.seen(told["status"]["address"])

    def reached() -> bool:
        return west.pod.succeeds(["timeout", "5", sys.executable, TRAFFIC, "tcp", address, str(NODE_PORT), "1000"])

    wait(reached, what="the node port", timeout=LONG)
    before = east.dropped("policy")
    east.kubectl.delete("externaladdress", name)
    wait(lambda: not reached(), what="the node port to be closed", timeout=LONG)
    assert east.dropped("policy") > before


@SIDES
def test_the_status_tells_what_is_the_case(clusters: Clusters, name: str) -> None:
    side: Side = getattr(clusters, name)
    peer = "east" if name == "west" else "west"
    status = side.until(peer, "Ready", connected, what="Ready")
    assert {(one["kind"], one["seenAs"]) for one in status["networks"]} >= {
        ("Pod", SEEN[name][0]),
        ("Service", SEEN[name][1]),
        ("External", SEEN[name][2]),
    }
    connection = status["connection"]
    assert connection["state"] == "Connected"
    assert connection["technology"].startswith("wireguard")
    assert connection["latency"].endswith("ms")
    assert connection["lastHandshake"]
    assert connection["mtu"] == 1420
    assert status["paths"] == {"total": 1, "ready": 1}


def test_tunnels_are_declared_and_taken_back_under_a_stream(clusters: Clusters) -> None:
    with clusters.stream() as stream:
        clusters.tunnels(2)
        for side, peer in zip(clusters.sides, ("east", "west"), strict=True):
            told = side.until(peer, "TunnelsShared", connected, what="both tunnels to be told of")
            assert [one["state"] for one in told["tunnels"]] == ["Connected", "Connected"]
        clusters.tunnels(1)
        assert joined(clusters)
    assert not stream["error"]


def test_f34_statuses_follow_an_underlay_that_is_cut_and_healed(clusters: Clusters, node: VirtualNode) -> None:
    with clusters.stream() as stream:
        clusters.router.ip("link set to-east down")
        began = time.monotonic()
        for side, peer in zip(clusters.sides, ("east", "west"), strict=True):
            told = side.until(peer, "Ready", lambda one: one["reason"] == "NoAnswer", what="the break to be told")
            assert told["connection"]["state"] == "Disconnected"
        node.until("PathBroken", since=began)
        clusters.router.ip("link set to-east up")
        for side, peer in zip(clusters.sides, ("east", "west"), strict=True):
            side.until(peer, "Ready", connected, what="Ready again")
        wait(lambda: joined(clusters), what="pings", timeout=LONG)
        node.until("PathPasses")
    assert not stream["error"]


@pytest.mark.parametrize("broken", [node_there, full_size], ids=lambda one: one.__name__)
def test_f34_a_node_tells_within_ten_seconds_that_pods_there_are_not_reached(
    clusters: Clusters, node: VirtualNode, broken: Break
) -> None:
    """Of what is wrong behind the tunnel, too: gateways still say that they hear each other."""
    lossy = broken is full_size
    with cut(*broken(clusters)) as began:
        node.until("FullSizePacketsLost" if lossy else "PathBroken", since=began)
        assert node.condition("NetworkUnavailable")["status"] == "True"
        # Who is there already and sends little is better kept than evicted.
        assert node.condition("Ready")["status"] == str(lossy)
        clusters.west.until("east", "Connected", connected, what="the gateways to hear each other")
    assert node.until("PathPasses")["status"] == "False"
    assert node.condition("Ready")["status"] == "True"


@contextmanager
def narrowed(clusters: Clusters) -> Iterator[None]:
    """The policy of who has nothing offloaded yet, for a while: tests that follow want the other."""
    for side, peer in zip(clusters.sides, ("east", "west"), strict=True):
        side.allow(peer, "OffloadedPods")
    try:
        yield
    finally:
        for side, peer in zip(clusters.sides, ("east", "west"), strict=True):
            side.allow(peer, "WholeCluster")
        wait(lambda: joined(clusters), what="pings", timeout=LONG)


def test_f34_where_nothing_else_may_pass_a_node_is_told_of_by_probes(clusters: Clusters, node: VirtualNode) -> None:
    """Then it matters most that the Node is right."""
    seen = clusters.west.seen
    others = [seen(one) for one in ("10.244.0.1", "fd24::1")]
    with narrowed(clusters):
        wait(lambda: not clusters.west.pings(), what="the west not to be let through")
        wait(lambda: not any(node.reaches(one) for one in others), what="other addresses not to be reached")
        # One packet at a time, which a busy machine may answer too late.
        for one in ("10.244.0.0", "fd24::"):
            wait(lambda: node.reaches(seen(one)), what=f"an answer from {one}")  # noqa: B023 - called at once
        before = clusters.west.dropped("policy")
        assert not any(node.reaches(one) for one in others)
        assert not node.reaches(seen("10.244.0.0"), port=RESPONDER_PORT + 1)
        assert clusters.west.dropped("policy") >= before + 3, "other addresses, and other ports"
        assert "path        east-ipv4       passes" in node.status()
        with cut(*gateway_there(clusters)) as began:
            node.until("PathBroken", since=began)
        node.until("PathPasses")


def test_f34_nobody_misses_a_manager_or_agents_that_are_killed(clusters: Clusters) -> None:
    west = clusters.west
    assert west.manager is not None
    with clusters.stream() as stream:
        west.manager.kill()
        for agent in west.agents.values():
            agent.end(signal.SIGKILL)
        assert joined(clusters)
        for agent in west.agents.values():
            agent.start()
        west.manager.start()
        west.until("east", "Applied", connected, what="everybody to be told again")
        assert joined(clusters)
    assert not stream["error"]
    assert stream["count"] > 10


def test_f34_another_gateway_takes_over_under_a_stream(clusters: Clusters) -> None:
    west = clusters.west
    west.until("east", "Ready", connected, what="Ready")
    first = west.agents[west.active("east")]
    with clusters.stream() as stream, clusters.stream(verb="beat") as beat:
        # As with its machine: what it made in the kernel is gone, too.
        first.place.ip("link set eth0 down")
        eventually(lambda: west.active("east") not in ("", first.name), what="another gateway", timeout=LONG)
        wait(lambda: joined(clusters), what="pings", timeout=LONG)
        west.retire(first)
        west.until("east", "Ready", connected, what="Ready by the other one")
        first.end(signal.SIGKILL)
        first.clean()
        first.place.ip("link set eth0 up")
        west.address(first.place)
        first.start()
        west.declare(first)
        west.until("east", "Applied", connected, what="the first one to wait")
        assert west.active("east") != first.name
        assert joined(clusters)
    assert (stream["error"], beat["error"]) == ("", "")
    sys.stdout.write(f"the other gateway took over within {beat['gap']:.1f} s\n")
    assert beat["gap"] < TAKEOVER_SECONDS


def test_a_key_that_is_exchanged_under_a_stream_loses_no_flow(clusters: Clusters) -> None:
    west, east = clusters.sides
    before = west.kubectl.get("networkpeering", "east")["status"]["publicKey"]
    with clusters.stream() as stream:
        west.kubectl.delete("secret", "isthmus-network-east")
        # Nobody looks at a key that is good; a new manager does.
        assert west.manager is not None
        west.manager.kill()
        west.manager.start()
        west.kubectl.wait_for("networkpeering", "east", lambda one: one["status"]["publicKey"] != before)
        east.take("west", west.export("east"))
        for side, peer in zip(clusters.sides, ("east", "west"), strict=True):
            side.until(peer, "Ready", connected, what="Ready with the new key")
        wait(lambda: joined(clusters), what="pings", timeout=LONG)
    assert not stream["error"]


def test_nothing_stays_of_peerings_that_are_deleted_and_made_again(clusters: Clusters) -> None:
    for side, peer in zip(clusters.sides, ("east", "west"), strict=True):
        side.kubectl.delete("networkpeering", peer)
    for side, peer in zip(clusters.sides, ("east", "west"), strict=True):
        wait(lambda side=side: not left(side), what="peers to go", timeout=LONG)  # type: ignore[misc] # a default argument
        side.kubectl.wait_gone("secret", f"isthmus-network-{peer}")
        assert not side.pings()
    clusters.peer()
    wait(lambda: joined(clusters), what="pings", timeout=LONG)


def test_cleaned_up_agents_leave_nothing(clusters: Clusters) -> None:
    """The last: afterwards there is no fabric."""
    for side in clusters.sides:
        assert side.manager is not None
        side.manager.stop()
        for agent in side.agents.values():
            agent.end(signal.SIGTERM)
            assert kernel(side, agent.name), "an agent that stops leaves what it made"
            agent.clean()
            assert not kernel(side, agent.name)


def kernel(side: Side, name: str) -> str:
    """What is isthmus's there."""
    look = "ip -o link | grep 'alias isthmus'; ip route show table all proto 73; ip rule | grep 730; "
    return side.agents[name].place.run(["sh", "-c", look + "nft list tables | grep isthmus; true"])


def left(side: Side) -> str:
    """What the kernel still has of peers: tunnels, routes, marks."""
    found = side.node.run(["sh", "-c", "ip route show proto 73"])
    for gateway in side.gateways:
        look = "ip -o link show type wireguard; ip -o link | grep isp; ip rule | grep 73000; "
        found += gateway.run(["sh", "-c", look + "nft list table inet isthmus | grep from_; true"])
    return found
