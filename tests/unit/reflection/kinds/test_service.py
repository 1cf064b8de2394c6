"""Services and their load balancers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflection.kinds import address, loadbalancer, marks, service
from reflection.kinds.model import Classes, Refusal
from tests.unit.reflection.kinds.contexts import Json, context, copy, document

ALLOCATED = {
    "clusterIP": "10.0.0.1",
    "clusterIPs": ["10.0.0.1"],
    "healthCheckNodePort": 30001,
    "loadBalancerIP": "203.0.113.1",
}


def spec_of(spec: Json, annotations: Json | None = None, **fields: Any) -> Json:
    made = copy(service.forge(document(spec=spec, annotations=annotations), context(**fields))).parts["spec"]
    assert isinstance(made, dict)
    return made


PORTS = st.lists(
    st.fixed_dictionaries(
        {"port": st.integers(1, 65535)},
        optional={"name": st.text(max_size=5), "nodePort": st.integers(30000, 32767), "targetPort": st.just("http")},
    ),
    max_size=4,
)
SPECS = st.fixed_dictionaries(
    {"ports": PORTS, "type": st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer"])},
    optional={
        "selector": st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
        "clusterIP": st.sampled_from(["None", "10.0.0.7", ""]),
        "loadBalancerClass": st.sampled_from(["a.example/b", "c"]),
        "externalIPs": st.lists(st.just("203.0.113.9"), max_size=2),
        "sessionAffinity": st.sampled_from(["ClientIP", "None"]),
        "ipFamilies": st.sampled_from([["IPv4"], ["IPv6", "IPv4"]]),
    },
)


@given(spec=SPECS)
def test_nothing_that_the_consumer_allocated_travels(spec: Json) -> None:
    made = spec_of({**ALLOCATED, **spec})
    assert made.get("clusterIP") in (None, "None")
    assert not {"clusterIPs", "healthCheckNodePort", "loadBalancerIP", "externalIPs"} & made.keys()
    assert not any("nodePort" in port for port in made["ports"])
    assert [port["port"] for port in made["ports"]] == [port["port"] for port in spec["ports"]]
    assert made.get("selector") == spec.get("selector")


def test_headless_stays_headless_and_affinity_is_kept() -> None:
    config = {"clientIP": {"timeoutSeconds": 5}}
    spec = {"clusterIP": "None", "sessionAffinity": "ClientIP", "sessionAffinityConfig": config}
    made = spec_of(spec)
    assert (made["clusterIP"], made["sessionAffinityConfig"]) == ("None", config)


def test_node_ports_are_kept_on_request() -> None:
    spec = {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}
    assert spec_of(spec, {marks.KEEP_NODE_PORT: "true"})["ports"] == [{"port": 80, "nodePort": 30080}]


def test_external_ips_are_left_out_and_told() -> None:
    local = document(spec={"externalIPs": ["203.0.113.1"]})
    made = copy(service.forge(local, context()))
    assert [note.reason for note in made.notes] == ["ExternalIPsNotReflected"]
    allowed = copy(service.forge(local, context(external_ips=True)))
    assert (allowed.parts["spec"]["externalIPs"], allowed.notes) == (["203.0.113.1"], ())


def test_external_name_only_where_allowed() -> None:
    local = document(spec={"type": "ExternalName", "externalName": "db.example.org"})
    refused = service.forge(local, context())
    assert isinstance(refused, Refusal)
    made = copy(service.forge(local, context(external_names=True)))
    assert made.parts["spec"] == {"type": "ExternalName", "externalName": "db.example.org"}


def test_the_api_servers_own_service_is_nothing_to_reflect() -> None:
    local = document("kubernetes", spec={})
    local["metadata"]["namespace"] = "default"
    assert service.forge(local, context()) is None


@pytest.mark.parametrize(
    ("named", "made_type", "made_class", "reasons"),
    [
        ("near", "LoadBalancer", "far", []),
        ("plain", "LoadBalancer", None, []),
        (None, "LoadBalancer", None, []),
        ("other", "ClusterIP", None, ["LoadBalancerClassNotMapped"]),
    ],
)
def test_load_balancer_classes(named: str | None, made_type: str, made_class: str | None, reasons: list[str]) -> None:
    classes = Classes(load_balancer={"near": "far", "plain": ""})
    spec = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", **({"loadBalancerClass": named} if named else {})}
    made = copy(service.forge(document(spec=spec), context(classes=classes)))
    assert made.parts["spec"]["type"] == made_type
    assert made.parts["spec"].get("loadBalancerClass") == made_class
    assert [note.reason for note in made.notes] == reasons
    assert ("externalTrafficPolicy" in made.parts["spec"]) is (made_type == "LoadBalancer")


@pytest.mark.parametrize(
    ("new", "old", "again"),
    [
        ({"type": "ClusterIP", "clusterIP": "None"}, {"type": "ClusterIP", "clusterIP": "10.0.0.1"}, True),
        ({"type": "ClusterIP"}, {"type": "ClusterIP", "clusterIP": "None"}, True),
        ({"type": "ClusterIP"}, {"type": "NodePort", "clusterIP": "10.0.0.1"}, False),
        ({"type": "LoadBalancer", "loadBalancerClass": "a"}, {"type": "LoadBalancer"}, True),
        ({"type": "LoadBalancer", "loadBalancerClass": "a"}, {"type": "ClusterIP"}, False),
        ({"type": "ClusterIP", "ipFamilies": ["IPv6"]}, {"type": "ClusterIP", "ipFamilies": ["IPv4"]}, True),
        ({"type": "ClusterIP", "ipFamilies": ["IPv4"]}, {"type": "ClusterIP", "ipFamilies": ["IPv4", "IPv6"]}, False),
        ({"type": "ExternalName"}, {"type": "ClusterIP", "clusterIP": "None"}, False),
    ],
)
def test_what_cannot_change_in_place_is_made_anew(new: Json, old: Json, again: bool) -> None:
    assert service.recreate({"spec": new}, {"spec": old}) is again


def test_families_that_the_provider_lacks_are_left_out() -> None:
    assert spec_of({"ipFamilies": ["IPv6", "IPv4"]}, families=("IPv4",))["ipFamilies"] == ["IPv4"]


LOCAL = {"type": "LoadBalancer", "loadBalancerClass": "near"}
REMOTE = document(spec={"type": "LoadBalancer"}, status={"loadBalancer": {"ingress": [{"ip": "203.0.113.5"}]}})


@pytest.mark.parametrize(
    ("mapped", "wish", "taken"),
    [
        (True, None, True),
        (False, None, False),
        (False, "any", True),
        (False, "p", True),
        (True, "other", False),
        (True, "none", False),
    ],
)
def test_status_comes_back_where_it_is_the_providers_to_say(mapped: bool, wish: str | None, taken: bool) -> None:
    local = document(spec=LOCAL, annotations={marks.STATUS_FROM: wish} if wish else {}, status={"conditions": []})
    classes = Classes(load_balancer={"near": ""} if mapped else {})
    found = loadbalancer.status_back(REMOTE, local, context(classes=classes))
    expected = {"conditions": [], "loadBalancer": {"ingress": [{"ip": "203.0.113.5"}]}}
    assert found == (expected if taken else None)


@given(found=st.recursive(st.none() | st.text() | st.integers(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)))
def test_a_providers_addresses_are_not_trusted(found: Any) -> None:
    assert all(entry.keys() <= {"ip", "hostname", "ipMode"} for entry in loadbalancer.entries(found))


def test_bad_addresses_are_dropped_and_many_cut() -> None:
    bad = [{"ip": "1.2.3.4.5"}, {"hostname": "a b"}, {"hostname": "x" * 300}, {"ip": 7}, "text"]
    good = [{"ip": "2001:db8::1", "ipMode": "VIP", "more": 1}, {"hostname": "lb.example.org"}]
    assert loadbalancer.entries([*bad, *good]) == [
        {"ip": "2001:db8::1", "ipMode": "VIP"},
        {"hostname": "lb.example.org"},
    ]
    assert len(loadbalancer.entries([{"ip": "203.0.113.1"}] * 100)) == loadbalancer.MOST


TIME = "2026-01-01T00:00:00Z"
THERE: Json = {
    "metadata": {"name": "x", "creationTimestamp": TIME},
    "spec": {
        "clusterIPs": ["10.96.0.7", "no", 7],
        "ports": [{"port": 80, "nodePort": 30080}, {"port": 443}, 5, {"port": 1, "nodePort": 2, "protocol": "\x1b[2J"}],
    },
}


@pytest.mark.parametrize(
    ("wish", "told"), [(None, False), ("none", False), ("other", False), ("any", True), ("p", True)]
)
def test_a_providers_address_is_told_where_asked(wish: str | None, told: bool) -> None:
    theirs = {"type": "example.org/mine", "status": "True"}
    local = document(annotations={marks.STATUS_FROM: wish} if wish else {}, status={"conditions": [theirs]})
    found = service.status_back(THERE, local, context())
    if not told:
        assert found is None
        return
    assert found is not None
    ours = {
        "type": "offloading.isthmus.dev/at-p",
        "status": "True",
        "reason": "Reflected",
        "message": "cluster IP 10.96.0.7; node ports 80:30080/TCP",
        "lastTransitionTime": TIME,
    }
    assert found["conditions"] == [theirs, ours]
    again = {**local, "status": found}
    assert service.status_back(THERE, again, context()) is None, "nothing is written twice"
    taken_back = {**again, "metadata": {**again["metadata"], "annotations": {}}}
    assert service.status_back(THERE, taken_back, context()) == {**found, "conditions": [theirs]}
    assert address.condition_type("x" * 200) != address.condition_type("x" * 199 + "y")
