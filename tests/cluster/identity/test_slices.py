"""ResourceSlices: asked for at the consumer, answered at the provider by each class, held, prolonged, given up."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from deploy.lab.lab import Lab
from deploy.lab.paths import ROOT
from tests.cluster.identity.conftest import LONG, Peering, condition
from tests.cluster.identity.test_tenancy import accepted, entered, shadow
from tests.kubectl import Kubectl, eventually

Json = dict[str, Any]
EXAMPLE = ROOT / "deploy/examples/slices"
CPUS = 2000
"""Of the provider's fake nodes together."""
SOME = {"cpu": "4", "memory": "8Gi", "pods": "10"}


def resource_slice(name: str, peering: Peering, **spec: Any) -> Json:
    return {
        "apiVersion": "authentication.isthmus.dev/v1alpha1",
        "kind": "ResourceSlice",
        "metadata": {"name": name},
        "spec": {"identity": peering.name, "resources": SOME, **spec},
    }


def until(peering: Peering, name: str, reason: str, holds: Callable[[Json], object] = bool) -> Json:
    """The consumer's slice once its condition has this reason."""

    def said(found: Json) -> bool:
        return bool(condition(found, "Granted")["reason"] == reason and holds(found))

    try:
        return peering.consumer.wait_for("slice", name, said, what=reason, timeout=LONG)
    except AssertionError as error:
        raise AssertionError(f"{error}; {peering.consumer.get('slice', name)['status']}") from error


def lent(peering: Peering, **limits: Any) -> None:
    tenant = yaml.safe_load(peering.ask())
    spec = {**tenant["spec"], "classes": ["default", "manual", "even"], **limits}
    peering.enter(peering.answer(json.dumps({**tenant, "spec": spec})))


def offers(peering: Peering, node: str) -> Json:
    found: Json = peering.consumer.get("virtualnode", node)["spec"]["resources"]
    return found


def test_a_slice_is_granted_from_what_is_left_makes_its_node_and_gives_it_back(peering: Peering) -> None:
    lent(peering, resources={"pods": 30})
    node = {"labels": {"tier": "gold"}}
    large = {"cpu": str(CPUS - 10), "memory": "8Gi", "pods": "20"}
    peering.consumer.apply(resource_slice("large", peering, resources=large, virtualNode=node))
    found = until(peering, "large", "Granted", lambda it: it["status"]["virtualNode"] == "large")
    assert found["status"]["granted"] == {"cpu": str(CPUS - 10), "memory": "8Gi", "pods": "20"}
    made = peering.consumer.get("virtualnode", "large")["spec"]
    assert made["resources"] == found["status"]["granted"]
    assert made["labels"] == {"tier": "gold"}
    assert (made["provider"], made["mode"]) == (peering.name, "Managed")
    assert made["kubeconfigSecret"]["name"] == f"provider-{peering.name}"

    peering.consumer.apply(resource_slice("rest", peering, resources={"cpu": "50", "memory": "8Gi", "pods": "20"}))
    found = until(peering, "rest", "Reduced")
    assert found["status"]["granted"] == {"cpu": "10", "memory": "8Gi", "pods": "10"}
    assert "cpu: 10 of 50, pods: 10 of 20" in condition(found, "Granted")["message"]
    peering.consumer.apply(resource_slice("none", peering))
    assert "cpu: 0 of 4" in condition(until(peering, "none", "Insufficient"), "Granted")["message"]

    peering.consumer.delete("slice", "large", timeout=LONG)
    assert not peering.consumer.exists("virtualnode", "large")
    there = replace(peering.provider, namespace="isthmus-shop")
    assert not there.exists("slice", "large")
    until(peering, "rest", "Granted")
    until(peering, "none", "Granted")
    assert "rest" in peering.consumer.run("get", "tenants,identities,slice")


def test_only_what_the_tenant_allows_is_granted(peering: Peering) -> None:
    lent(peering, classes=["manual"], nodeSelector={"pool": "shared"})
    peering.consumer.apply(
        resource_slice("a", peering), resource_slice("b", peering, **{"class": "manual"}, nodeSelector={"pool": "x"})
    )
    assert "these classes here: manual" in condition(until(peering, "a", "ClassNotAllowed"), "Granted")["message"]
    until(peering, "b", "SelectorNotAllowed")


def test_an_administrator_decides_about_the_class_manual_by_kubectl(peering: Peering) -> None:
    lent(peering)
    peering.consumer.apply(resource_slice("asked", peering, **{"class": "manual"}))
    until(peering, "asked", "AwaitingDecision")
    there = replace(peering.provider, namespace="isthmus-shop")

    def decide(**decision: Any) -> None:
        patch = json.dumps({"status": {"decision": {"resources": None, "message": None, **decision}}})
        there.run("patch", "slice", "asked", "--subresource=status", "--type=merge", "-p", patch)

    decide(verdict="Granted", resources={**SOME, "cpu": "3", "memory": "99Gi"}, message="until the move")
    found = until(peering, "asked", "Reduced")
    assert found["status"]["granted"] == {"cpu": "3", "memory": "8Gi", "pods": "10"}
    assert "(until the move)" in condition(found, "Granted")["message"]
    peering.consumer.apply(resource_slice("asked", peering, **{"class": "manual"}, resources={**SOME, "cpu": "90"}))
    until(peering, "asked", "Reduced", lambda it: "3 of 90" in condition(it, "Granted")["message"])
    decide(verdict="Denied", message="not this year")
    found = until(peering, "asked", "Denied")
    assert "granted" not in found["status"]
    assert "not this year" in condition(found, "Granted")["message"]


@contextmanager
def example(lab: Lab, folder: Path) -> Iterator[None]:
    """The controller of the documentation, running with the rights that are beside it."""
    admin = Kubectl(lab.provider.plan.binaries / "kubectl", lab.provider.admin_kubeconfig)
    admin.run("apply", "-f", str(EXAMPLE / "rbac.yaml"))
    file = lab.provider.client_kubeconfig("system:serviceaccount:default:slice-controller", path=folder / "decider")
    process = subprocess.Popen([sys.executable, "-W", "ignore", str(EXAMPLE / "controller.py"), str(file)])
    try:
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        admin.delete("-f", str(EXAMPLE / "rbac.yaml"))


def test_a_controller_of_the_providers_own_decides_about_its_class(lab: Lab, peering: Peering, tmp_path: Path) -> None:
    lent(peering)
    with example(lab, tmp_path):
        for name, cpu in (("five", 5), ("one", 1)):
            asked = {**SOME, "cpu": cpu}
            peering.consumer.apply(resource_slice(name, peering, **{"class": "even"}, resources=asked))
        found = until(peering, "five", "Reduced")
        assert found["status"]["granted"]["cpu"] == "4"
        assert "(2 pairs)" in condition(found, "Granted")["message"]
        assert "whole pairs of CPUs" in condition(until(peering, "one", "Denied"), "Granted")["message"]


def test_a_lease_ends_with_its_time_and_one_that_is_renewed_goes_on(peering: Peering) -> None:
    lent(peering)
    lease: Json = {"duration": "12s", "virtualNode": {}}
    peering.consumer.apply(
        resource_slice("once", peering, **lease, renewal="Never"), resource_slice("on", peering, **lease)
    )
    first = {name: until(peering, name, "Granted")["status"]["expires"] for name in ("once", "on")}
    until(peering, "once", "Expired")
    eventually(
        lambda: offers(peering, "once") == dict.fromkeys(("cpu", "memory", "pods"), "0"),
        what="the node to offer nothing",
        timeout=LONG,
    )
    until(peering, "on", "Granted", lambda it: it["status"]["expires"] > first["on"])
    assert offers(peering, "on")["cpu"] == "4"


def test_a26_slices_are_the_quota_of_pods(peering: Peering) -> None:
    own = entered(peering, classes=["default"])
    own.apply(shadow("before", "1"))
    own.wait_for("shadowpod", "before", lambda it: accepted(it) == "False", timeout=LONG)
    peering.consumer.apply(resource_slice("some", peering, resources={**SOME, "cpu": "2"}))
    until(peering, "some", "Granted")
    own.apply(*(shadow(f"p-{i}", "1") for i in range(4)))
    eventually(lambda: all(accepted(it) for it in own.list("shadowpods")), what="each to be decided", timeout=LONG)
    eventually(
        lambda: len([it for it in own.list("shadowpods") if accepted(it) == "True"]) == 2, what="two pods", timeout=LONG
    )
    said = [it["status"]["message"] for it in own.list("shadowpods") if accepted(it) == "False"]
    assert len(said) == 3
    assert any("2 of the 2 that the consumer's slices grant" in text for text in said)


def test_a27_a_consumer_cannot_answer_itself(peering: Peering) -> None:
    lent(peering)
    peering.consumer.apply(resource_slice("asked", peering, **{"class": "manual"}))
    until(peering, "asked", "AwaitingDecision")
    own = peering.credential()
    status = {"decision": {"verdict": "Granted", "resources": SOME}, "granted": SOME}
    patch = json.dumps({"status": status})
    done = own.result("patch", "slice", "asked", "--subresource=status", "--type=merge", "-p", patch)
    assert b"orbidden" in done.stderr
    own.run("patch", "slice", "asked", "--type=merge", "-p", patch)  # the API server leaves status out of it
    found = own.get("slice", "asked")["status"]
    assert "decision" not in found
    assert "granted" not in found
    done = own.result("patch", "slice", "asked", "--type=merge", "-p", '{"metadata":{"finalizers":["a.example/b"]}}')
    assert b"may neither set nor remove any" in done.stderr


def test_a_slice_that_means_nothing_is_refused(peering: Peering) -> None:
    for spec, says in (
        ({"resources": {"cpu": "1"}}, "cpu, memory and pods"),
        ({"resources": {**SOME, "cpu": "-1"}}, "spec.resources.cpu"),
        ({"duration": "soon"}, "spec.duration"),
        ({"class": "No!"}, "spec.class"),
        ({"renewal": "Often"}, "spec.renewal"),
    ):
        made = resource_slice("bad", peering)
        made["spec"].update(spec)
        done = peering.consumer.result("apply", "-f", "-", stdin=json.dumps(made).encode())
        assert says in done.stderr.decode()
