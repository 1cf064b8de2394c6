"""How a remote pod finds names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reflection.forge.dns import name_service
from reflection.forge.model import ForgeContext
from reflection.forge.pod import forge_pod

OURS = ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"]
NDOTS = {"name": "ndots", "value": "5"}


@pytest.fixture
def served(context: ForgeContext) -> ForgeContext:
    return replace(context, dns_servers=("10.96.0.53",))


def found(spec: dict[str, Any], served: ForgeContext) -> dict[str, Any]:
    return name_service(spec, namespace="shop", context=served)


@pytest.mark.parametrize("spec", [{}, {"dnsPolicy": "ClusterFirst"}, {"dnsPolicy": "ClusterFirstWithHostNet"}])
def test_names_are_those_of_the_consumers_namespace(spec: dict[str, Any], served: ForgeContext) -> None:
    config = {"nameservers": ["10.96.0.53"], "searches": OURS, "options": [NDOTS]}
    assert found(spec, served) == {"dnsPolicy": "None", "dnsConfig": config}


def test_the_users_own_settings_are_added_as_a_kubelet_does(served: ForgeContext) -> None:
    own = {
        "nameservers": ["10.96.0.53", "203.0.113.1"],
        "searches": ["example.org", "cluster.local"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
    }
    made = found({"dnsConfig": own}, served)["dnsConfig"]
    assert made["nameservers"] == ["10.96.0.53", "203.0.113.1"]
    assert made["searches"] == [*OURS, "example.org"]
    assert made["options"] == [{"name": "ndots", "value": "2"}, {"name": "edns0"}]


def test_no_more_than_an_api_server_takes(served: ForgeContext) -> None:
    own = {"nameservers": [f"203.0.113.{n}" for n in range(3)], "searches": [f"s{n}.example" for n in range(32)]}
    made = found({"dnsConfig": own}, served)["dnsConfig"]
    assert (len(made["nameservers"]), len(made["searches"])) == (3, 32)


@pytest.mark.parametrize("policy", ["None", "Default"])
def test_who_does_not_want_the_clusters_names_is_left_alone(
    pod: dict[str, Any], served: ForgeContext, policy: str
) -> None:
    pod["spec"] |= {"dnsPolicy": policy, "dnsConfig": {"nameservers": ["203.0.113.1"]}}
    made = forge_pod(pod, context=served).body["spec"]
    assert (made["dnsPolicy"], made["dnsConfig"]) == (policy, {"nameservers": ["203.0.113.1"]})


def test_it_is_part_of_a_forged_pod_and_absent_without_a_server(
    pod: dict[str, Any], served: ForgeContext, context: ForgeContext
) -> None:
    namespace = pod["metadata"]["namespace"]
    made = forge_pod(pod, context=served).body["spec"]
    assert made["dnsConfig"]["searches"][0] == f"{namespace}.svc.cluster.local"
    assert forge_pod(pod, context=context).body["spec"]["dnsPolicy"] == pod["spec"]["dnsPolicy"]
