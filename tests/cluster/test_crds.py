"""The CRDs in a real API server: examples are taken, mistakes are refused with what to do, and kubectl explains."""

import json
from dataclasses import replace
from typing import Any

import pytest

from api.definitions import DEFINITIONS
from deploy.lab.api import Api, StatusError
from deploy.lab.cluster import LabCluster
from deploy.lab.paths import ROOT
from tests.kubectl import Kubectl, eventually

EXAMPLES = sorted((ROOT / "deploy/examples/objects").glob("*.yaml"))
NODE: dict[str, Any] = {"provider": "north", "kubeconfigSecret": {"name": "north"}}


@pytest.fixture(scope="module")
def kubectl(consumer: LabCluster) -> Kubectl:
    made = Kubectl(consumer.plan.binaries / "kubectl", consumer.admin_kubeconfig)
    made.run("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "deploy/crds"))
    made.run("wait", "--for=condition=Established", "crd", "--all")
    # The API server serves a new kind a moment after it said Established.
    for plural in (definition.resource.plural for definition in DEFINITIONS):
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


def peering(name: str = "north", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.isthmus.dev/v1alpha1",
        "kind": "NetworkPeering",
        "metadata": {"name": name},
        "spec": spec,
    }


def external(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.isthmus.dev/v1alpha1",
        "kind": "ExternalAddress",
        "metadata": {"name": "database"},
        "spec": spec,
    }


@pytest.fixture
def api(consumer: LabCluster, kubectl: Kubectl) -> Api:
    """The API server with the CRDs, for what is asked often: kubectl takes half a second for each question."""
    return consumer.api


def dry(api: Api, manifest: dict[str, Any]) -> None:
    """As `kubectl apply --server-side --force-conflicts --dry-run=server`; StatusError with all that is wrong."""
    resource = next(one.resource for one in DEFINITIONS if one.resource.kind == manifest["kind"])
    metadata = manifest["metadata"]
    path = resource.path(namespace=metadata.get("namespace"), name=metadata["name"])
    query = "?fieldManager=kubectl&force=true&dryRun=All&fieldValidation=Strict"
    api.request("PATCH", path + query, body=manifest, content_type="application/apply-patch+yaml")


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_each_example_applies_twice_and_goes(kubectl: Kubectl, file: Any) -> None:
    anywhere = replace(kubectl, namespace="")
    try:
        for _ in range(2):
            anywhere.run("apply", "--server-side", "-f", str(file))
        assert anywhere.run("diff", "--server-side", "-f", str(file)) == ""
    finally:
        anywhere.delete("--wait=false", "-f", str(file))


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (virtual_node(pendingTimeout="soon"), "spec.pendingTimeout"),
        (virtual_node(resources={"cpu": "much"}), "spec.resources"),
        (virtual_node(mode="Magic"), "spec.mode"),
        (virtual_node(apiServer="10.0.0.1"), "apiServer must be host:port"),
        (virtual_node(provider="North!"), "spec.provider"),
        (virtual_node(dns={"servers": ["north"]}), "servers must be IP addresses"),
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
def test_a_mistake_is_refused_and_says_what_to_do(api: Api, manifest: dict[str, Any], said: str) -> None:
    with pytest.raises(StatusError, match=said):
        dry(api, manifest)


@pytest.mark.parametrize(
    ("cidr", "said"),
    [
        ("0.0.0.0/0", "a default route, or half of one"),
        ("::/0", "a default route, or half of one"),
        ("128.0.0.0/1", "a default route, or half of one"),
        ("127.0.0.0/8", "no loopback"),
        ("::1/128", "no loopback"),
        ("169.254.0.0/16", "link-local"),
        ("169.0.0.0/8", "link-local"),
        ("fe80::/64", "link-local"),
        ("fe00::/8", "link-local"),
        ("224.0.0.0/8", "multicast"),
        ("ff02::/16", "multicast"),
        ("240.0.0.0/8", "reserved"),
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.1/16", "no bits set behind its prefix"),
        ("10.0.0.0", "must be a network"),
        ("::ffff:10.0.0.0/112", "must be a network"),
        ("010.0.0.0/16", "must be a network"),
    ],
)
def test_a40_a_peer_cannot_announce_what_is_no_network_of_pods(api: Api, cidr: str, said: str) -> None:
    with pytest.raises(StatusError, match=said):
        dry(api, peering(peer={"podCIDRs": [cidr]}))


def test_a40_nor_in_any_other_field(api: Api) -> None:
    fields = ("peer.serviceCIDRs", "peer.externalCIDRs", "local.podCIDRs", "local.reservedCIDRs")
    peer, local = (
        {field.partition(".")[2]: ["0.0.0.0/0"] for field in fields if field.startswith(side)}
        for side in ("peer", "local")
    )
    with pytest.raises(StatusError) as refused:
        dry(api, peering(peer=peer, local=local, remapPools=["0.0.0.0/0"]))
    for field in (*fields, "remapPools"):
        assert f"spec.{field}[0]: Invalid value" in str(refused.value)


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (peering(peer={"publicKey": "c2hvcnQ="}), "32 bytes in base64"),
        (peering(peer={"endpoints": ["north"]}), "must be host:port"),
        (peering(peer={"endpoints": ["fd00::1:51820"]}), "must be host:port"),
        (peering(remap=[{"cidr": "10.0.0.0/16", "seenAs": "10.1.0.0/17"}]), "must have the prefix length"),
        (peering(remap=[{"cidr": "10.0.0.0/64", "seenAs": "fd00::/64"}]), "must be a network"),
        (peering(remap=[{"cidr": "10.0.0.0/16", "seenAs": "10.1.0.0/16"}] * 2), "duplicate entries for key"),
        (peering(peer={"podCIDRs": ["10.0.0.0/16"] * 2}), "duplicate entries for key"),
        (peering(peer={"podCIDRs": [f"10.{n}.0.0/16" for n in range(17)]}), "at most 16"),
        (peering(technology="None", mtu=1400), "mtu must not be given"),
        (peering(technology="IPsec"), "spec.technology"),
        (peering(mtu=1000), "spec.mtu"),
        (peering(port=0), "spec.port"),
        (peering(tunnels=9), "spec.tunnels"),
        (peering(technology="VXLAN", tunnels=2), "tunnels must be 1 unless technology is WireGuard"),
        (peering(peer={"tunnels": [{"publicKey": "c2hvcnQ="}]}), "32 bytes in base64"),
        (peering(trafficPolicy="All"), "spec.trafficPolicy"),
        (peering(name="n" * 41), "at most 40 characters"),
        (external(), "address: Required value"),
        (external(address="127.0.0.1"), "no loopback"),
        (external(address="169.254.169.254"), "link-local"),
        (external(address="db.example.org"), "must be an IP address"),
    ],
)
def test_a_mistake_in_the_network_is_refused_and_says_what_to_do(api: Api, manifest: dict[str, Any], said: str) -> None:
    with pytest.raises(StatusError, match=said):
        dry(api, manifest)


def test_both_halves_of_a_network_peering_can_have_owners_of_their_own(kubectl: Kubectl) -> None:
    """The exchange writes `peer`, a person writes `local`; neither takes the other's away."""
    ours, theirs = peering(local={"podCIDRs": ["10.0.0.0/16"]}), peering(peer={"podCIDRs": ["10.0.0.0/16"]})
    try:
        for manifest, manager in ((ours, "us"), (theirs, "them"), (ours, "us")):
            text = json.dumps(manifest)
            kubectl.run("apply", "--server-side", f"--field-manager={manager}", "-f", "-", stdin=text)
        found = kubectl.get("networkpeering", "north")["spec"]
        assert found["local"] == {"podCIDRs": ["10.0.0.0/16"]}
        assert found["peer"] == {"podCIDRs": ["10.0.0.0/16"]}
    finally:
        kubectl.delete("networkpeering", "north")


def test_what_may_not_change_says_so(kubectl: Kubectl, api: Api) -> None:
    kubectl.create(offloading())
    try:
        with pytest.raises(StatusError, match="namespaceMapping cannot be changed"):
            dry(api, offloading(namespaceMapping="EnforceSameName"))
    finally:
        kubectl.delete("nso", "offloading")
    kubectl.create(virtual_node())
    try:
        for change in ({"nodeName": "m"}, {"provider": "south"}, {"mode": "Managed"}):
            with pytest.raises(StatusError, match=f"{next(iter(change))} cannot be changed"):
                dry(api, virtual_node(**change))
    finally:
        kubectl.delete("vn", "node-1")


def test_defaults_show_and_kubectl_explains(kubectl: Kubectl) -> None:
    kubectl.create({**offloading(), "spec": {}})
    try:
        assert kubectl.get("nso", "offloading")["spec"]["podStrategy"] == "LocalAndRemote"
        assert "LocalAndRemote" in kubectl.run("get", "isthmus", "-A")
    finally:
        kubectl.delete("nso", "offloading")
    assert "evicted here" in " ".join(kubectl.run("explain", "vn.spec.pendingTimeout").split())
