"""States with several tunnels between the two gateways of a `World`, and what their kernels make of them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from netfabric._pb import fabric_pb2 as pb
from tests.lab.fabric.places import Place, wait
from tests.lab.fabric.world import PODS, PODS6, PROBES, WIREGUARD, Cluster, World, keypair

MOST = 4
_KEYS = {side: [keypair() for _ in range(MOST)] for side in ("west", "east")}
"""Of the tunnels behind the first, which has the world's."""


def link(cluster: Cluster, number: int, *, world: World) -> str:
    """Name of a tunnel; the first is number 0."""
    name = f"wg-{world.other(cluster).name}"
    return f"{name}-{number}" if number else name


def state(world: World, cluster: Cluster, count: int) -> pb.DesiredState:
    """What a gateway is told when `count` tunnels share the flows."""
    made = world.gateway_state(cluster)
    other = world.other(cluster).name
    mine, theirs = (1, 2) if cluster is world.west else (2, 1)
    for number in range(1, count):
        name = link(cluster, number, world=world)
        at = 4 * number
        ends = f"169.254.18.{at + mine}", f"169.254.18.{at + theirs}"
        added = made.links.add(name=name, addresses=[f"{ends[0]}/30"], neighbours=[ends[1]])
        added.wireguard.private_key.value = _KEYS[cluster.name][number][0]
        added.wireguard.listen_port = WIREGUARD + number
        added.wireguard.peers.add(
            public_key=_KEYS[other][number][1],
            endpoint=f"10.0.2.2:{WIREGUARD + number}" if cluster is world.west else "",
            allowed_ips=[PODS, PODS6, f"{ends[1]}/32"],
            keepalive_seconds=5 if cluster is world.west else 0,
        )
        made.peers[0].links.append(name)
        made.probes.add(name=name, peer=other, address=ends[1], port=PROBES, interval_milliseconds=200)
    return made


def apply(world: World, count: int) -> None:
    """Have so many tunnels, and flows spread over all of them."""
    for cluster in world.clusters:
        cluster.gateway_agent.apply(state(world, cluster, count))
    await_sharing(world, range(count))


def await_sharing(world: World, numbers: Sequence[int]) -> None:
    """Wait until flows go by these tunnels and no others, both ways, in both families."""
    for cluster in world.clusters:
        names = {link(cluster, number, world=world) for number in numbers}
        wait(lambda c=cluster, n=names: sharing(c) == [n, n], what=f"flows by {names}", timeout=40)  # type: ignore[misc]


def sharing(cluster: Cluster) -> list[set[str]]:
    """The links by which flows to the peer go, in IPv4 and in IPv6."""
    return [links(cluster.gateway, family, table=7300007) for family in ("-4", "-6")]


def links(place: Place, family: str, *, table: int) -> set[str]:
    """Those of the routes of a table."""
    routes = json.loads(place.run(["ip", "-j", family, "route", "show", "table", str(table)]))
    hops = [hop for route in routes for hop in route.get("nexthops", [route]) if route.get("type") != "unreachable"]
    return {hop["dev"] for hop in hops if hop["dev"] != "lo"}


def carried(cluster: Cluster, names: list[str]) -> dict[str, tuple[int, int]]:
    """Bytes that came and went by each link."""
    shown = json.loads(cluster.gateway.run(["ip", "-j", "-s", "link"]))
    figures = {one["ifname"]: one["stats64"] for one in shown}
    return {name: (figures[name]["rx"]["bytes"], figures[name]["tx"]["bytes"]) for name in names}
