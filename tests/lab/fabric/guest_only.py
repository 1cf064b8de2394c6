"""What needs a kernel that has everything: run in the guest (tests/lab/test_guest.py), beside the other tests here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.fabric.places import wait
from tests.lab.fabric.world import PORT, World, serving

SPOILT = "delay 10ms 5ms loss 5% reorder 25% 50%"


@pytest.fixture
def spoilt(world: World) -> Iterator[None]:
    """An underlay that loses and reorders packets, both ways."""
    links = ("to-west", "to-east")
    for link in links:
        world.router.run(["sh", "-c", f"tc qdisc add dev {link} root netem {SPOILT}"])
    yield
    for link in links:
        world.router.run(["tc", "qdisc", "del", "dev", link, "root"])


def test_tunnels_are_the_kernels_own(world: World) -> None:
    agent = world.west.gateway_agent
    assert {"wireguard-kernel", "geneve"} <= set(agent.watch().capabilities)
    links = {link.name: link.technology for link in agent.watch().links}
    assert links == {"wg-east": "wireguard (kernel)", "un-1": "geneve"}


@pytest.mark.usefixtures("spoilt")
def test_f34_loss_and_reordering_slow_flows_down_and_end_none(world: World) -> None:
    west, east = world.clusters
    with world.stream(west) as stream, world.stream(east) as back:
        for cluster in world.clusters:
            for address in (cluster.remote, cluster.remote6):
                sent = cluster.pod.run(cluster.traffic("tcp", address, PORT, 300_000), timeout=90)
                assert sent.strip() == "300000"
        (probe,) = west.gateway_agent.watch().probes
        assert probe.passing, "a path that loses some packets is not broken"
        wait(lambda: west.gateway_agent.watch().probes[0].loss > 0, what="the loss to be measured", timeout=60)
    assert (stream["error"], back["error"]) == ("", "")


def test_sctp(world: World) -> None:
    with serving(world.east.pod, 7200, verb="sctp-serve"):
        sent = world.west.pod.run(world.west.traffic("sctp", world.west.remote, 7200, 20_000))
        assert sent.strip() == "20000"
