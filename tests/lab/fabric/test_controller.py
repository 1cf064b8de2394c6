"""From two NetworkPeerings to packets between pods: the product's manager and agents in two clusters."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from deploy.lab import packages, testing
from deploy.lab.settings import LabSettings
from tests.kubectl import eventually
from tests.lab.fabric.clusters import LONG, SEEN, Clusters, Json, Side
from tests.lab.fabric.places import wait
from tests.lab.fabric.world import PORT


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


def connected(condition: Json) -> bool:
    return bool(condition["status"] == "True")


def joined(clusters: Clusters) -> bool:
    return all(side.pings() for side in clusters.sides)


def test_pods_services_and_hosts_of_two_clusters_reach_each_other(clusters: Clusters) -> None:
    for side in clusters.sides:
        assert joined(clusters), side.name
        assert side.asks("tcp", side.remote, PORT, 300_000) == "300000"
        assert side.asks("udp", side.remote, PORT, 1000) == "1000"
        assert side.pings(place=side.node), "the host itself"
    west, east = clusters.sides
    assert west.asks("peer", west.remote, PORT) == east.remote, "the source is the pod's own"
    assert west.asks("tcp", west.remote_service, PORT, 1000) == "1000"


@pytest.mark.parametrize("name", ["west", "east"])
def test_the_status_tells_what_is_the_case(clusters: Clusters, name: str) -> None:
    side: Side = getattr(clusters, name)
    peer = "east" if name == "west" else "west"
    status = side.until(peer, "Ready", connected, what="Ready")
    assert {(one["kind"], one["seenAs"]) for one in status["networks"]} >= {
        ("Pod", SEEN[name][0]),
        ("Service", SEEN[name][1]),
    }
    connection = status["connection"]
    assert connection["state"] == "Connected"
    assert connection["technology"].startswith("wireguard")
    assert connection["latency"].endswith("ms")
    assert connection["lastHandshake"]
    assert connection["mtu"] == 1420
    assert status["paths"] == {"total": 1, "ready": 1}


def test_f34_the_status_follows_an_underlay_that_is_cut_and_healed(clusters: Clusters) -> None:
    with clusters.stream() as stream:
        clusters.router.ip("link set to-east down")
        for side, peer in zip(clusters.sides, ("east", "west"), strict=True):
            told = side.until(peer, "Ready", lambda one: one["reason"] == "NoAnswer", what="the break to be told")
            assert told["connection"]["state"] == "Disconnected"
        clusters.router.ip("link set to-east up")
        for side, peer in zip(clusters.sides, ("east", "west"), strict=True):
            side.until(peer, "Ready", connected, what="Ready again")
        wait(lambda: joined(clusters), what="pings", timeout=LONG)
    assert not stream["error"]


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
    with clusters.stream() as stream:
        # As with its machine: what it made in the kernel is gone, too.
        first.place.ip("link set eth0 down")
        eventually(lambda: west.active("east") not in ("", first.name), what="another gateway", timeout=LONG)
        wait(lambda: joined(clusters), what="pings", timeout=LONG)
        west.retire(first)
        west.until("east", "Ready", connected, what="Ready by the other one")
        first.end(signal.SIGKILL)
        first.clean()
        first.place.ip("link set eth0 up", "route replace default via 10.244.1.1")
        first.start()
        west.declare(first)
        west.until("east", "Applied", connected, what="the first one to wait")
        assert west.active("east") != first.name
        assert joined(clusters)
    assert not stream["error"]


def test_a_key_that_is_exchanged_under_a_stream_loses_no_flow(clusters: Clusters) -> None:
    west, east = clusters.sides
    before = west.kubectl.get("networkpeering", "east")["status"]["publicKey"]
    with clusters.stream() as stream:
        west.kubectl.run("delete", "secret", "isthmus-network-east")
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
        side.kubectl.run("delete", "networkpeering", peer)
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
