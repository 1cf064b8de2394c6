"""Several tunnels to one peer: exchanged, told to agents as far as both sides have them, and what the status says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from api.meta import Condition, condition
from api.networking.peering import (
    LocalSide,
    NetworkPeering,
    NetworkPeeringSpec,
    NetworkPeeringStatus,
    PeerSide,
)
from kube.objects import Metadata
from netfabric._pb import fabric_pb2 as pb
from netfabric.agent import reading
from netfabric.controller import declared, desired, exchange, links, status
from netfabric.controller.connection import SHARING
from netfabric.controller.facts import Offloaded, PeerFacts, TunnelFacts
from netfabric.controller.keys import KeyPair
from netfabric.controller.known import Known, Seen, tunnel_keys
from netfabric.controller.world import peer_facts, set_apart
from netfabric.plan.allocation import plan
from netfabric.plan.model import PeerPlan
from tests.unit.netfabric.controller.worlds import CAPABLE, OWN, alike, facts, gateways, key, world

ABLE = CAPABLE | {desired.PARALLEL}
NOW = datetime(2026, 11, 26, tzinfo=UTC)
PODS = {"west": "10.0.0.0/16", "east": "10.1.0.0/16"}


class Side:
    """One cluster, with its half of a peering."""

    def __init__(self, name: str, *, tunnels: int, local: LocalSide | None = None, port: int | None = None) -> None:
        self.key = key(name)
        self.name = name
        spec = NetworkPeeringSpec(local=local or LocalSide(pod_cidrs=(PODS[name],)), tunnels=tunnels, port=port)
        self.peering = NetworkPeering(metadata=Metadata(name="other"), spec=spec)

    @property
    def planned(self) -> PeerPlan:
        return plan(declared.own([self.peering], ()), [declared.peer_input(self.peering)]).peers["other"]

    def known(self, **more: object) -> Known:
        made = self.facts
        used = tuple(one.number for one in made.tunnels) if made is not None else ()
        keys = tunnel_keys(self.planned, self.key)
        given: dict[str, object] = {"plan": self.planned, "public_key": self.key.public_text, **more}
        return Known(tunnels=keys, used=used, **given)  # type: ignore[arg-type] # as the class has them

    def keep(self, **more: object) -> Known:
        """What the manager does: the status holds what was planned."""
        known = self.known(**more)
        made = status.status(self.peering, known, now=NOW)
        self.peering = msgspec.structs.replace(self.peering, status=made)
        return known

    def take(self, other: Side) -> None:
        """What an administrator does: the other's export becomes this side's spec.peer."""
        told = exchange.export(other.peering, name="other")["spec"]["peer"]
        peer = msgspec.convert({name: value for name, value in told.items() if value is not None}, PeerSide)
        self.peering = msgspec.structs.replace(self.peering, spec=msgspec.structs.replace(self.peering.spec, peer=peer))

    @property
    def facts(self) -> PeerFacts | None:
        return peer_facts(self.peering, self.planned, self.key, offloaded=Offloaded(), exports={})

    @property
    def tunnels(self) -> tuple[TunnelFacts, ...]:
        made = self.facts
        assert made is not None
        return made.tunnels


def exchanged(west: Side, east: Side) -> None:
    for side in (west, east):
        side.keep()
    west.take(east)
    east.take(west)


def dialled(*ports: int, port: int = 51820) -> LocalSide:
    return LocalSide(pod_cidrs=(PODS["east"],), endpoints=(f"gw.example.org:{port}",), tunnel_ports=ports)


@pytest.mark.parametrize(("ours", "theirs"), [(1, 1), (3, 3), (3, 1), (1, 3), (2, 8)])
def test_both_sides_come_to_the_same_tunnels_of_which_there_are_the_fewer(ours: int, theirs: int) -> None:
    west, east = Side("west", tunnels=ours), Side("east", tunnels=theirs, local=dialled())
    exchanged(west, east)
    assert len(west.tunnels) == len(east.tunnels) == min(ours, theirs)
    for here, there in zip(west.tunnels, east.tunnels, strict=True):
        assert (here.peer_key, here.public_key) == (there.public_key, there.peer_key)
        assert here.endpoint == f"gw.example.org:{there.port}"
        assert not there.endpoint
        ends = links.tunnel(here.public_key, here.peer_key)
        assert links.tunnel(there.public_key, there.peer_key) == ends.reversed
    assert len({one.public_key for one in west.tunnels}) == len(west.tunnels), "each has a key of its own"


@pytest.mark.parametrize(
    ("local", "port", "expected"),
    [
        (dialled(), 51820, [51820, 51821, 51822]),
        (dialled(port=30000), 51820, [30000, 30001, 30002]),
        (dialled(31111, 32222, port=30000), None, [30000, 31111, 32222]),
        (dialled(31111, port=30000), None, [30000, 31111, 30002]),
    ],
)
def test_a_peer_dials_each_tunnel_where_it_is_told(local: LocalSide, port: int | None, expected: list[int]) -> None:
    west, east = Side("west", tunnels=3), Side("east", tunnels=3, local=local, port=port)
    exchanged(west, east)
    assert [one.endpoint for one in west.tunnels] == [f"gw.example.org:{one}" for one in expected]


def test_nothing_is_exported_before_the_further_tunnels_have_keys() -> None:
    east = Side("east", tunnels=2, local=dialled())
    made = NetworkPeeringStatus(public_key=east.key.public_text, port=51820)
    with pytest.raises(exchange.NotReadyError, match="further tunnels have no keys yet"):
        exchange.export(msgspec.structs.replace(east.peering, status=made), name="west")


@pytest.mark.parametrize("count", [1, 2])
def test_what_is_not_declared_any_more_is_not_exported_either(count: int) -> None:
    east = Side("east", tunnels=3, local=dialled())
    east.keep()
    fewer = msgspec.structs.replace(east.peering.spec, tunnels=count)
    told = exchange.export(msgspec.structs.replace(east.peering, spec=fewer), name="west")["spec"]["peer"]["tunnels"]
    assert len(told or ()) == count - 1


def test_a_peer_that_tells_nothing_of_tunnels_has_one() -> None:
    """One of an earlier version: its export has no such field."""
    west, east = Side("west", tunnels=3), Side("east", tunnels=1, local=dialled())
    exchanged(west, east)
    assert len(west.tunnels) == 1
    assert sharing(west).reason == "PeerHasFewer"


def test_keys_of_tunnels_are_made_from_the_first_and_tell_nothing_of_it() -> None:
    pair = key("a")
    made = [pair.tunnel(number) for number in range(8)]
    assert made[0] == pair
    assert len({one.private for one in made}) == len({one.public for one in made}) == 8
    assert [pair.tunnel(number) for number in range(8)] == made
    # As `wg` shows them: an agent would take another one for a change, at every look.
    assert all(not one.private[0] & 7 and one.private[31] & 192 == 64 for one in made)


# -- what agents are told


def told(number: int, *, capabilities: frozenset[str] = ABLE) -> pb.DesiredState:
    """The state of a gateway with so many tunnels to its one peer."""
    known = world(alike(1))
    peer = facts(plan(OWN, alike(1)).peers["peer-0"], whole=True, offloaded=Offloaded(), further=further(number))
    state = desired.gateway(replace(known, peers=(peer,)), gateways(1, capabilities=capabilities)[0])
    state.term = state.generation = 1
    return state


def further(count: int, *, pairs: tuple[KeyPair, KeyPair] = (key("x"), key("y"))) -> tuple[TunnelFacts, ...]:
    return tuple(
        TunnelFacts(
            number=number,
            port=52000 + number,
            public_key=pairs[0].tunnel(number).public,
            private_key=pairs[0].tunnel(number).private,
            peer_key=pairs[1].tunnel(number).public,
            endpoint="",
        )
        for number in range(1, count)
    )


def test_a_gateway_has_a_link_a_probe_and_its_rules_for_each_tunnel() -> None:
    state = told(3)
    reading.read(state)
    names = ["isp1", "isp1-1", "isp1-2"]
    assert list(state.requires) == ["parallel-links"]
    assert list(state.peers[0].links) == names
    made = {one.name: one for one in state.links if one.HasField("wireguard")}
    assert list(made) == names
    assert [probe.name for probe in state.probes if probe.peer] == names
    for probe in state.probes:
        if probe.peer:
            assert [probe.address] == list(made[probe.name].neighbours)
    assert {one.link for one in state.masquerades} == set(names)
    for link in made.values():
        assert list(link.wireguard.peers[0].allowed_ips[:-1]) == [one.real for one in state.peers[0].prefixes]


def test_one_tunnel_is_told_as_ever_and_to_an_agent_of_an_earlier_version_none_but_one() -> None:
    one = told(1)
    assert not one.requires
    assert told(3, capabilities=CAPABLE) == told(1, capabilities=CAPABLE) == one


def test_a_tunnel_that_has_anothers_addresses_is_left_out_and_no_more_than_that() -> None:
    planned = plan(OWN, alike(1)).peers["peer-0"]
    first = facts(planned, further=further(3))
    # The other's second tunnel has the keys, so the addresses, of one of the first's.
    second = facts(planned, name="b", number=9, further=further(3), public_key=key("u").public)
    kept, problems = set_apart([first, second])
    assert [[one.number for one in peer.tunnels] for peer in kept] == [[0, 1, 2], [0]]
    assert not problems


# -- what the status says


def sharing(side: Side, **more: object) -> Condition:
    side.keep(**more)
    found = condition(side.peering.status.conditions, SHARING)
    assert found is not None
    return found


def heard(side: Side, *passing: bool, capabilities: frozenset[str] = ABLE) -> dict[str, object]:
    """What the active gateway says: of each tunnel, whether its probes are answered."""
    state = pb.AgentState(agent="gw", capabilities=sorted(capabilities))
    for one, passes in zip(side.tunnels, passing, strict=True):
        name = links.peer_link(side.planned.number, tunnel=one.number)
        link = state.links.add(name=name, up=True, mtu=1420)
        link.wireguard_peers.add(public_key=one.peer_key, last_handshake=Timestamp(seconds=1))
        state.probes.add(name=name, passing=passes, settled=True, last_answer=Timestamp(seconds=1))
    return {"gateways": [Seen(name="gw", connected=True, current=True, state=state)], "active": "gw"}


def test_the_status_tells_of_each_tunnel_and_one_that_fails_is_not_the_connection() -> None:
    west, east = Side("west", tunnels=3), Side("east", tunnels=3, local=dialled())
    exchanged(west, east)
    assert sharing(west, **heard(west, True, True, True)).reason == "AllPass"
    found = sharing(west, **heard(west, False, True, True))
    assert (found.status, found.reason) == ("False", "TunnelsBroken")
    assert "on port 51820 here" in found.message
    assert [one.state for one in west.peering.status.tunnels] == ["Disconnected", "Connected", "Connected"]
    conditions = west.peering.status.conditions
    connected = condition(conditions, "Connected")
    assert connected is not None
    assert connected.status == "True"
    none = sharing(west, **heard(west, False, False, False))
    assert (none.status, none.reason) == ("Unknown", "NotConnected")


@pytest.mark.parametrize(("ours", "theirs", "reason"), [(3, 2, "PeerHasFewer"), (1, 2, "PeerHasMore")])
def test_it_is_said_when_the_sides_differ(ours: int, theirs: int, reason: str) -> None:
    west, east = Side("west", tunnels=ours), Side("east", tunnels=theirs, local=dialled())
    exchanged(west, east)
    found = sharing(west, **heard(west, *[True] * min(ours, theirs)))
    assert (found.status, found.reason) == ("False", reason)
    assert f"{min(ours, theirs)} are used" in found.message
    ready = condition(west.peering.status.conditions, "Ready")
    assert ready is not None
    assert ready.reason != reason, "packets pass"


def test_it_is_said_when_a_gateway_can_have_one_only() -> None:
    west, east = Side("west", tunnels=2), Side("east", tunnels=2, local=dialled())
    exchanged(west, east)
    assert sharing(west, **heard(west, True, True, capabilities=CAPABLE)).reason == "GatewayCannot"


def test_one_tunnel_has_no_such_condition_nor_keeps_one() -> None:
    west, east = Side("west", tunnels=2), Side("east", tunnels=2, local=dialled())
    exchanged(west, east)
    assert sharing(west, **heard(west, True, True)).status == "True"
    one = [Side("west", tunnels=1), Side("east", tunnels=1, local=dialled())]
    exchanged(*one)
    held = msgspec.structs.replace(west.peering.status, networks=one[0].peering.status.networks)
    one[0].peering = msgspec.structs.replace(one[0].peering, status=held)
    one[0].keep()
    assert condition(one[0].peering.status.conditions, SHARING) is None
    assert not one[0].peering.status.tunnels


def test_the_order_of_tunnels_outlives_a_plan() -> None:
    """A tunnel's place is its key, so its port must stay with it."""
    east = Side("east", tunnels=4, local=dialled())
    east.keep()
    before = east.peering.status.tunnels
    assert [one.port for one in before] == [51820, 51821, 51822, 51823]
    east.keep()
    assert east.peering.status.tunnels == before
    assert east.planned.further_ports == (51821, 51822, 51823)
