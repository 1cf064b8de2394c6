"""Agents that are told of much, and how many objects that comes to in their kernel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

from netfabric._pb import fabric_pb2 as pb
from tests import firewalls
from tests.firewalls import Json
from tests.lab.fabric.places import Place, join
from tests.lab.fabric.prefork import Prefork
from tests.lab.fabric.world import POD, AgentProcess, World

ROLES = {"gateway": pb.ROLE_GATEWAY, "node": pb.ROLE_NODE}
_SHOWN = IPv4Address("10.244.64.0")
_TARGET = IPv4Address("198.18.0.1")
"""The pod has an address of its own; all others are every second one from here, so that no two make a prefix."""


@contextmanager
def agent_of(role: str, *, folder: Path, prefork: Prefork) -> Iterator[AgentProcess]:
    """An agent in a place of its own, in which there is nothing but a default route to nowhere."""
    agent = AgentProcess(Place(f"scale-{role}"), role=role, folder=folder, prefork=prefork)
    nowhere = Place(f"nowhere-{role}")
    try:
        join(nowhere, "lan", agent.place, "lan")
        nowhere.ip("address add 203.0.113.1/30 dev lan")
        agent.place.ip("address add 203.0.113.2/30 dev lan", "route add default via 203.0.113.1")
        agent.start()
        agent.ready()
        yield agent
    finally:
        if agent.process is not None:
            agent.kill()
        agent.place.close()
        nowhere.close()


def counted(place: Place, *, number: int) -> dict[str, int]:
    """Objects of an agent in the kernel; `met` is of packets of the peer of this number."""
    table = listed(place)
    links = place.run(["ip", "-o", "link"]).count("alias isthmus")
    return {
        "links": links,
        "rules": sum(place.run(["ip", family, "rule"]).count("proto 73") for family in ("-4", "-6")),
        "routes": sum(
            len(place.run(["ip", family, "route", "show", "table", "all", "proto", "73"]).splitlines())
            for family in ("-4", "-6")
        ),
        "firewall": firewalls.rules(table),
        "met": firewalls.met(table, number),
        "elements": firewalls.elements(table),
    }


def listed(place: Place) -> list[Json]:
    """An agent's table in the kernel; empty if there is none."""
    if "table inet isthmus" not in place.run(["nft", "list", "tables"]).splitlines():
        return []
    found: list[Json] = json.loads(place.run(["nft", "-j", "list", "table", "inet", "isthmus"]))["nftables"]
    return found


def exporting(world: World, count: int) -> pb.DesiredState:
    """The west's gateway with so many addresses of others, each of which the east may reach, and nothing else."""
    made = world.gateway_state(world.west)
    policy = made.peers[0].policy
    del policy.reachable[:]
    for number in range(count):
        target = _TARGET + 2 * number if number else POD
        made.exports.add(shown=f"{_SHOWN + number}/32", target=f"{target}/32", masquerade=True)
        policy.reachable.append(f"{target}/32")
    return made
