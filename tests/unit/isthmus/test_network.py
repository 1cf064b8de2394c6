"""`isthmus network export`: what is told to the other side, and how it is asked for."""

from __future__ import annotations

import msgspec
import pytest

from api.networking.peering import (
    LocalSide,
    NetworkPeering,
    NetworkPeeringSpec,
    NetworkPeeringStatus,
    PlannedNetwork,
)
from isthmus import network, options
from isthmus.options import OptionsError
from kube.objects import Metadata
from netfabric.controller import exchange


def peering() -> NetworkPeering:
    local = LocalSide(pod_cidrs=("10.0.0.0/16",), reserved_cidrs=("192.168.0.0/16",), endpoints=("gw.example.org:1",))
    networks = (
        PlannedNetwork(kind="Pod", cidr="10.0.0.0/16", seen_as="100.64.0.0/16"),
        PlannedNetwork(kind="Pod", cidr="10.1.0.0/16", seen_as="10.1.0.0/16", problem="taken"),
    )
    status = NetworkPeeringStatus(public_key="k" * 43 + "=", networks=networks)
    return NetworkPeering(metadata=Metadata(name="north"), spec=NetworkPeeringSpec(local=local), status=status)


def test_the_other_side_learns_what_is_its_business_and_nothing_else() -> None:
    made = exchange.export(peering(), name="home")
    assert made["metadata"] == {"name": "home"}
    assert made["spec"]["peer"] == {
        "podCIDRs": ["10.0.0.0/16"],
        "serviceCIDRs": None,
        "externalCIDRs": None,
        "endpoints": ["gw.example.org:1"],
        "publicKey": "k" * 43 + "=",
        "remappedCIDRs": [{"cidr": "10.0.0.0/16", "seenAs": "100.64.0.0/16"}],
        "probeAddresses": ["10.0.0.0"],
        "tunnels": None,
    }
    assert made["spec"].keys() == {"technology", "peer"}


def test_what_is_missing_is_said() -> None:
    bare = NetworkPeering(metadata=Metadata(name="north"))
    with pytest.raises(exchange.NotReadyError, match=r"NetworkPeering north: spec\.local is not declared"):
        exchange.export(bare, name="home")
    keyless = NetworkPeering(metadata=Metadata(name="north"), spec=NetworkPeeringSpec(local=LocalSide()))
    with pytest.raises(exchange.NotReadyError, match=r"--module=network"):
        exchange.export(keyless, name="home")


def test_the_name_may_stand_alone_as_kubectl_has_it() -> None:
    flags = network.arguments(["export", "north", "--named", "home", "-o", "json"])
    parsed = options.parse(flags, network.ExportOptions, command="network export", purpose="")
    assert (parsed.peering, parsed.named, parsed.output) == ("north", "home", "json")
    with pytest.raises(OptionsError, match="usage: isthmus network export NAME"):
        network.arguments(["import"])


def test_probes_are_answered_once_in_each_family_and_by_gateways_of_ours_only() -> None:
    cidrs = ("10.0.0.0/16", "fd00:10::/56", "10.9.0.0/16")
    made = peering()
    local = msgspec.structs.replace(made.spec.local, pod_cidrs=cidrs)  # type: ignore[type-var] # it has one
    told = msgspec.structs.replace(made, spec=msgspec.structs.replace(made.spec, local=local))
    assert exchange.export(told, name="home")["spec"]["peer"]["probeAddresses"] == ["10.0.0.0", "fd00:10::"]
    theirs = msgspec.structs.replace(told, spec=msgspec.structs.replace(told.spec, technology="None"))
    assert exchange.export(theirs, name="home")["spec"]["peer"]["probeAddresses"] is None
