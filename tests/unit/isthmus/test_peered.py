"""Addresses by a NetworkPeering's plan."""

from __future__ import annotations

from typing import Any

import msgspec

from api.networking.common import Remapped
from api.networking.peering import (
    LocalSide,
    NetworkPeering,
    NetworkPeeringSpec,
    NetworkPeeringStatus,
    PeerSide,
    PlannedNetwork,
)
from isthmus.addresses import Addresses
from isthmus.peered import Peered
from kube.store import Change

PLANNED = NetworkPeering(
    spec=NetworkPeeringSpec(
        local=LocalSide(pod_cidrs=("10.0.0.0/16",)),
        peer=PeerSide(
            remapped_cidrs=(
                Remapped(cidr="10.0.0.0/16", seen_as="100.99.0.0/16"),
                Remapped(cidr="172.30.0.0/16", seen_as="172.31.0.0/16"),
            )
        ),
    ),
    status=NetworkPeeringStatus(
        networks=(
            PlannedNetwork(kind="Pod", cidr="10.0.0.0/16", seen_as="100.64.0.0/16"),
            PlannedNetwork(kind="Service", cidr="10.96.0.0/16", seen_as="100.65.0.0/16"),
            PlannedNetwork(kind="Pod", cidr="10.7.0.0/16", seen_as="10.7.0.0/16", problem="taken"),
        )
    ),
)


def peered() -> Peered:
    client: Any = type("Unused", (), {"name": "consumer", "metrics": None})()
    return Peered(client, peering="north")


def tell(made: Peered, old: NetworkPeering | None, new: NetworkPeering | None) -> None:
    made._changed(Change(("", "north"), old, new, initial=False))


def test_both_directions_follow_the_plan() -> None:
    made: Addresses = peered()
    assert isinstance(made, Peered)
    tell(made, None, PLANNED)
    assert made.back("10.0.3.4") == "100.64.3.4"
    assert made.back("10.7.0.1") is None, "nothing passes through that network"
    assert made.back("10.96.0.1") is None, "no pod has a Service's address"
    assert made.address("10.0.3.4") == "100.99.3.4"
    assert made.address("100.64.3.4") == "10.0.3.4"
    assert made.network("10.0.3.0/24") == "100.99.3.0/24"
    assert made.address("172.30.0.1") is None, "what the peer says of networks that are not ours does not count"


def test_nothing_has_an_address_before_the_plan_or_after_it() -> None:
    made = peered()
    assert made.back("10.0.3.4") is None
    tell(made, None, PLANNED)
    tell(made, PLANNED, None)
    assert made.back("10.0.3.4") is None
    assert made.address("10.0.3.4") is None


def test_changes_are_told_once() -> None:
    made = peered()
    told: list[int] = []
    made.subscribe(lambda: told.append(1))
    tell(made, None, PLANNED)
    tell(made, PLANNED, PLANNED)
    assert told == [1]


def test_pods_are_asked_for_at_addresses_of_the_providers_pods_only() -> None:
    made = peered()
    assert not made.probed
    assert PLANNED.spec.peer is not None
    told = ("10.0.0.0", "10.7.0.0", "10.96.0.0", "192.0.2.1")
    peer = msgspec.structs.replace(PLANNED.spec.peer, probe_addresses=told)
    asked = msgspec.structs.replace(PLANNED, spec=msgspec.structs.replace(PLANNED.spec, peer=peer))
    tell(made, None, PLANNED)
    tell(made, PLANNED, asked)
    assert made.probed == ("100.64.0.0",), "what is no open network of pods is nobody's to be asked"
