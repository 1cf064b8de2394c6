"""The CRDs in a real API server: examples are taken, mistakes are refused with what to do, and kubectl explains."""

import json
from dataclasses import replace
from typing import Any

import pytest

from deploy.lab.cluster import LabCluster
from deploy.lab.paths import ROOT
from tests.kubectl import Kubectl, KubectlError, eventually

EXAMPLES = sorted((ROOT / "deploy/examples/objects").glob("*.yaml"))
NODE: dict[str, Any] = {"provider": "north", "kubeconfigSecret": {"name": "north"}}


@pytest.fixture(scope="module")
def kubectl(consumer: LabCluster) -> Kubectl:
    made = Kubectl(consumer.plan.binaries / "kubectl", consumer.admin_kubeconfig)
    made.run("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "deploy/crds"))
    made.run("wait", "--for=condition=Established", "-k", str(ROOT / "deploy/crds"))
    # The API server serves a new kind a moment after it said Established.
    for plural in ("virtualnodes", "namespaceoffloadings", "namespacemaps", "shadowpods"):
        eventually(lambda plural=plural: made.run("get", plural, "-A") is not None, what=plural)  # type: ignore[misc]
    return made


def virtual_node(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "offloading.isthmus.dev/v1alpha1",
        "kind": "VirtualNode",
        "metadata": {"name": "node-1"},
        "spec": {**NODE, **spec},
    }


def offloading(name: str = "offloading", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "offloading.isthmus.dev/v1alpha1",
        "kind": "NamespaceOffloading",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


def dry(kubectl: Kubectl, manifest: dict[str, Any]) -> str:
    text = json.dumps(manifest)
    return kubectl.run("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", stdin=text)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_each_example_applies_twice_and_goes(kubectl: Kubectl, file: Any) -> None:
    anywhere = replace(kubectl, namespace="")
    try:
        for _ in range(2):
            anywhere.run("apply", "--server-side", "-f", str(file))
        assert anywhere.run("diff", "--server-side", "-f", str(file)) == ""
    finally:
        anywhere.run("delete", "--wait=false", "-f", str(file))


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (virtual_node(pendingTimeout="soon"), "spec.pendingTimeout"),
        (virtual_node(resources={"cpu": "much"}), "spec.resources"),
        (virtual_node(mode="Magic"), "spec.mode"),
        (virtual_node(apiServer="10.0.0.1"), "apiServer must be host:port"),
        (virtual_node(provider="North!"), "spec.provider"),
        (virtual_node(taints=[{"key": "a"}]), "effect: Required value"),
        (virtual_node(labelz={"a": "b"}), "labelz"),
        ({**virtual_node(), "spec": {}}, "provider: Required value"),
        (offloading(name="other"), "must be named offloading"),
        (offloading(namespaceMapping="SelectedName"), "remoteNamespace must be given with"),
        (offloading(remoteNamespace="x"), "remoteNamespace must be given with"),
        (offloading(podStrategy="Everywhere"), "spec.podStrategy"),
        (offloading(providerLost={"policy": "Replace"}), "policy Replace needs after"),
    ],
)
def test_a_mistake_is_refused_and_says_what_to_do(kubectl: Kubectl, manifest: dict[str, Any], said: str) -> None:
    with pytest.raises(KubectlError, match=said):
        dry(kubectl, manifest)


def test_what_may_not_change_says_so(kubectl: Kubectl) -> None:
    kubectl.create(offloading())
    try:
        with pytest.raises(KubectlError, match="namespaceMapping cannot be changed"):
            dry(kubectl, offloading(namespaceMapping="EnforceSameName"))
    finally:
        kubectl.run("delete", "nso", "offloading")
    kubectl.create(virtual_node())
    try:
        for change in ({"nodeName": "m"}, {"provider": "south"}, {"mode": "Managed"}):
            with pytest.raises(KubectlError, match=f"{next(iter(change))} cannot be changed"):
                dry(kubectl, virtual_node(**change))
    finally:
        kubectl.run("delete", "vn", "node-1")


def test_defaults_show_and_kubectl_explains(kubectl: Kubectl) -> None:
    kubectl.create({**offloading(), "spec": {}})
    try:
        assert kubectl.get("nso", "offloading")["spec"]["podStrategy"] == "LocalAndRemote"
        assert "LocalAndRemote" in kubectl.run("get", "isthmus", "-A")
    finally:
        kubectl.run("delete", "nso", "offloading")
    assert "evicted here" in " ".join(kubectl.run("explain", "vn.spec.pendingTimeout").split())
