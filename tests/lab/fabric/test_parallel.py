"""Several tunnels between two gateways share the flows, do without one that fails, and come and go under a stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab.fabric import parallel
from tests.lab.fabric.places import wait
from tests.lab.fabric.world import PORT, WIREGUARD, Cluster, World

FLOWS = 64
_CUT = f"""
table inet cut {{
    chain way {{ type filter hook forward priority 10; udp dport {WIREGUARD + 1} drop; }}
}}
"""


@pytest.fixture(autouse=True)
def restored(world: World) -> Iterator[None]:
    """One tunnel before and after."""
    yield
    for cluster in world.clusters:
        cluster.gateway_agent.apply(world.gateway_state(cluster))
    world.await_connected(timeout=40)


def _flows(cluster: Cluster, address: str) -> int:
    return int(cluster.pod.run(cluster.traffic("spread", address, PORT, FLOWS), timeout=100))


@contextmanager
def _second_tunnel_cut(world: World) -> Iterator[None]:
    world.router.run(["nft", "-f", "-"], stdin=_CUT)
    try:
        yield
    finally:
        world.router.run(["nft", "delete", "table", "inet", "cut"])


def _kernel(cluster: Cluster) -> str:
    shown = "ip -o link | sed 's/[0-9]*: //'; ip route show table all; ip -6 route show table all; ip rule"
    return cluster.gateway.run(["sh", "-c", shown])


def test_flows_are_spread_over_all_tunnels_and_none_is_lost_with_one_of_them(world: World) -> None:
    parallel.apply(world, 3)
    names = [parallel.link(world.west, number, world=world) for number in range(3)]
    for address in (world.west.remote, world.west.remote6):
        before = parallel.carried(world.west, names)
        assert _flows(world.west, address) == FLOWS
        after = parallel.carried(world.west, names)
        for name in names:
            came, went = (new - old for new, old in zip(after[name], before[name], strict=True))
            # Probes and handshakes are some hundred bytes a second, five flows of 64 are 5,000.
            assert came > 5000, f"{name}: {before[name]}, then {after[name]}"
            assert went > 5000, f"{name}: {before[name]}, then {after[name]}"
    repairs = world.west.gateway_agent.watch().applied.repairs
    with world.stream(world.east) as stream:
        with _second_tunnel_cut(world):
            parallel.await_sharing(world, [0, 2])
            assert _flows(world.west, world.west.remote) == FLOWS
            assert _flows(world.east, world.east.remote6) == FLOWS
        parallel.await_sharing(world, range(3))
        assert world.west.gateway_agent.watch().applied.repairs == repairs, "what the agent wants is no repair"
        # With it IPv4 removes the whole route.
        world.west.gateway.ip(f"link del {names[2]}")
        wait(lambda: world.west.gateway_agent.watch().applied.repairs > repairs, what="the repair", timeout=40)
        parallel.await_sharing(world, range(3))
    assert not stream["error"]


def test_tunnels_come_and_go_under_a_stream(world: World) -> None:
    before = [_kernel(cluster) for cluster in world.clusters]
    with world.stream(world.west) as stream, world.stream(world.east, address=world.east.remote6) as six:
        for count in (3, 1):
            parallel.apply(world, count)
            assert world.connected()
    assert (stream["error"], six["error"]) == ("", "")
    assert [_kernel(cluster) for cluster in world.clusters] == before
