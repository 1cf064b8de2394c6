"""VirtualNodes as declared objects: the manager's manifests, its image, and the life of two virtual nodes."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from deploy import rights, stack
from deploy.lab import isthmus_image
from deploy.lab.lab import Lab
from deploy.lab.paths import ROOT
from tests import manifests as m
from tests.abilities import can
from tests.kubectl import Kubectl, admin, eventually, ready
from tests.lab.uninstall import uninstall

CONSUMER_ID = "consumer"
MANIFESTS = str(ROOT / "deploy/manager/consumer")
READY = "--for=condition=Ready"
_MINUTES = "--timeout=120s"


def virtual_node(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "offloading.isthmus.dev/v1alpha1",
        "kind": "VirtualNode",
        "metadata": {"name": name},
        "spec": {
            "provider": "provider",
            "kubeconfigSecret": {"name": "provider"},
            "resources": {"cpu": "2", "memory": "4Gi", "pods": 20},
            **spec,
        },
    }


def identity() -> dict[str, Any]:
    """A peer whose kubeconfig somebody else made, in the Secret `provider`."""
    spec = {"method": "Kubeconfig", "secret": {"name": "provider"}}
    kind = {"apiVersion": "authentication.isthmus.dev/v1alpha1", "kind": "Identity"}
    return {**kind, "metadata": {"name": "provider"}, "spec": spec}


def offloading(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "offloading.isthmus.dev/v1alpha1",
        "kind": "NamespaceOffloading",
        "metadata": {"name": "offloading"},
        "spec": spec,
    }


@pytest.fixture(scope="module")
def own(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """kubectl in namespace `isthmus`, where two managers run; nothing of it stays."""
    for cluster in (lab.consumer, lab.provider):
        isthmus_image.load(cluster)
    stack.grant(lab.provider, consumer_id=CONSUMER_ID)
    stack.elect(lab.provider, consumer_id=CONSUMER_ID)
    file = tmp_path_factory.mktemp("kubeconfigs") / "kubeconfig"
    lab.provider.client_kubeconfig(stack.provider_user(CONSUMER_ID), path=file)
    kubectl = admin(lab.consumer, "isthmus")
    try:
        for _ in range(2):
            kubectl.run("apply", "--server-side", "-k", MANIFESTS)
        kubectl.run("create", "secret", "generic", "provider", f"--from-file={file}")
        kubectl.run("wait", "--for=condition=Available", _MINUTES, "deployment/isthmus-manager", timeout=130)
        kubectl.apply(identity())
        kubectl.run("wait", READY, _MINUTES, "identity/provider", timeout=130)
        yield kubectl
    finally:
        uninstall(kubectl, MANIFESTS)
        admin(lab.provider, "default").delete("namespace", f"isthmus-{CONSUMER_ID}", "--ignore-not-found")


@pytest.fixture
def shop(own: Kubectl, lab: Lab) -> Iterator[Kubectl]:
    """kubectl in a namespace of the consumer."""
    consumer = admin(lab.consumer, "shop")
    consumer.run("create", "namespace", consumer.namespace)
    consumer.wait_for("serviceaccount", "default")
    consumer.apply(offloading())
    try:
        yield consumer
    finally:
        consumer.delete("namespace", consumer.namespace, timeout=120)


def told(virtual: dict[str, Any], reason: str, part: str) -> bool:
    return any(c["reason"] == reason and part in c["message"] for c in virtual["status"]["conditions"])


def compare_rights(kubectl: Kubectl, user: str, who: str, *places: str) -> None:
    """What a user may do in kubectl's namespace is what docs/rights.md says of these places."""
    common = can(kubectl, "--as=system:serviceaccount:default:nobody") | can(kubectl, "--as=nobody")
    wanted = set[rights.Right]().union(*(rights.of("consumer", who, place) for place in places))
    assert can(kubectl, f"--as={user}") - common == wanted - common, (user, kubectl.namespace)


def deployment(node: str) -> dict[str, Any]:
    made = m.workload("Deployment", "web", replicas=2)
    made["spec"]["template"]["spec"]["nodeSelector"] = {"kubernetes.io/hostname": node}
    return made


def budget(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, **spec},
    }


@pytest.mark.timeout(500)
def test_a_virtual_node_is_declared_used_changed_and_removed(own: Kubectl, shop: Kubectl, lab: Lab) -> None:
    given = own.get("identity", "provider")["status"]["kubeconfigSecret"]
    own.apply(virtual_node("one", kubeconfigSecret={"name": given}, labels={"tier": "gold"}))
    own.run("wait", READY, _MINUTES, "virtualnode/one", timeout=130)
    shop.apply(deployment("one"))
    eventually(lambda: len([p for p in shop.list("pods") if ready(p)]) == 2, what="two pods", timeout=90)
    pod = shop.list("pods")[0]["metadata"]["name"]
    eventually(lambda: "HTTP server" in shop.run("logs", pod), what="logs")
    before = {p["metadata"]["uid"] for p in shop.list("pods")}

    own.apply(virtual_node("one", labels={"tier": "silver"}, resources={"cpu": "3", "memory": "4Gi", "pods": 20}))

    def changed(node: dict[str, Any]) -> bool:
        labels: dict[str, str] = node["metadata"]["labels"]
        return labels.get("tier") == "silver" and bool(node["status"]["allocatable"]["cpu"] == "3")

    own.wait_for("node", "one", changed, timeout=90)
    assert {p["metadata"]["uid"] for p in shop.list("pods")} == before
    own.wait_for("virtualnode", "one", lambda vn: vn["status"]["allocatable"]["cpu"] == "3")

    shop.apply(budget(minAvailable=2))
    own.delete("virtualnode", "one", "--wait=false")

    def blocked(vn: dict[str, Any]) -> bool:
        drain = vn["status"]["drain"]
        return len(drain["blocked"]) == 2 and "disruption budget" in drain["blocked"][0]

    own.wait_for("virtualnode", "one", blocked, timeout=60)
    assert own.get("node", "one")["spec"]["unschedulable"] is True
    assert len([p for p in shop.list("pods") if ready(p)]) == 2
    shop.delete("poddisruptionbudget", "web")
    own.wait_gone("virtualnode", "one", timeout=120)
    assert not own.exists("node", "one")
    assert not own.run("get", "deployment,secret,configmap", "--selector=app.kubernetes.io/instance=one", "-o", "name")
    provider = admin(lab.provider, "default")
    assert not provider.run(
        "get", "namespaces", f"--selector=offloading.isthmus.dev/consumer={CONSUMER_ID}", "-o", "name"
    )
    assert all(p["status"]["phase"] == "Pending" for p in shop.list("pods")), "their nodeSelector allows no other node"


def test_a20_managers_and_virtual_kubelets_can_do_what_the_page_says_and_nothing_else(
    own: Kubectl, shop: Kubectl, lab: Lab
) -> None:
    own.apply(virtual_node("three"))
    shop.wait_for("rolebinding", "isthmus-kinds", lambda it: it["subjects"], timeout=60)
    manager, kubelet = "system:serviceaccount:isthmus:isthmus-manager", "system:node:three"
    other = admin(lab.consumer, "kube-system")
    compare_rights(own, manager, "manager", rights.CLUSTER, rights.OWN)
    compare_rights(other, manager, "manager", rights.CLUSTER)
    compare_rights(shop, kubelet, rights.KUBELET, rights.CLUSTER, "offloaded namespaces")
    for elsewhere in (own, other):
        compare_rights(elsewhere, kubelet, rights.KUBELET, rights.CLUSTER)
    own.delete("virtualnode", "three", timeout=120)


def test_what_is_wrong_with_a_virtual_node_is_said(own: Kubectl) -> None:
    own.apply(virtual_node("two", kubeconfigSecret={"name": "nowhere"}))

    def said(vn: dict[str, Any]) -> bool:
        return any(
            c["reason"] == "KubeconfigMissing" and "isthmus/nowhere" in c["message"] for c in vn["status"]["conditions"]
        )

    own.wait_for("virtualnode", "two", said)
    own.apply(virtual_node("two", labels={"node-role.kubernetes.io/master": ""}))
    own.wait_for("virtualnode", "two", lambda vn: any(c["reason"] == "InvalidSpec" for c in vn["status"]["conditions"]))
    own.delete("virtualnode", "two", timeout=60)


def test_one_manager_leads_and_another_takes_over(own: Kubectl) -> None:
    def holder() -> str:
        lease = json.loads(own.run("get", "lease", "isthmus-manager", "-o", "json"))
        return str(lease["spec"].get("holderIdentity", ""))

    first = eventually(holder, what="a leader")
    own.delete("pod", first, "--wait=false")
    eventually(lambda: holder() not in ("", first), what="another leader", timeout=40)


def plain(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    """A workload as its users write it: it knows nothing of virtual nodes."""
    made = m.workload(kind, name, virtual=False, **fields)
    del made["spec"]["template"]["spec"]["tolerations"]
    return made


def service(name: str) -> dict[str, Any]:
    spec = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


@pytest.mark.timeout(500)
def test_an_application_that_knows_nothing_of_isthmus_runs_at_the_provider(
    own: Kubectl, shop: Kubectl, lab: Lab
) -> None:
    names = stack.answer_names(lab.provider, consumer_id=CONSUMER_ID)
    for name in ("left", "right"):
        own.apply(virtual_node(name, labels={"side": name}, dns={"servers": [names]}))
    shop.apply(offloading(podStrategy="Remote"))
    own.run("wait", READY, _MINUTES, "virtualnode/left", "virtualnode/right", timeout=130)
    shop.run("wait", READY, _MINUTES, "namespaceoffloading/offloading", timeout=130)
    shop.run("wait", "--for=condition=SchedulingEnabled", _MINUTES, "namespaceoffloading/offloading", timeout=130)

    def prepared() -> bool:
        # An API server shows pods to a new webhook only after a moment.
        made = shop.run("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(m.pod("probe")))
        return "offloading.isthmus.dev/pod-strategy" in json.loads(made)["metadata"].get("annotations", {})

    eventually(prepared, what="the webhook", timeout=60)
    shop.apply(service("web"), plain("Deployment", "web", replicas=2))
    eventually(lambda: len([p for p in shop.list("pods") if ready(p)]) == 2, what="two pods", timeout=90)
    assert {p["spec"]["nodeName"] for p in shop.list("pods")} <= {"left", "right"}

    there = admin(lab.provider, f"{shop.namespace}-{CONSUMER_ID}")
    there.wait_for("service", "web")
    pod = shop.list("pods")[0]["metadata"]["name"]
    for name in ("web", f"web.{shop.namespace}", f"web.{shop.namespace}.svc.cluster.local"):
        reach = ("exec", pod, "--", "/agnhost", "connect", "--timeout=5s", f"{name}:80")
        eventually(lambda reach=reach: shop.result(*reach).returncode == 0, what=f"{name} to answer", timeout=60)  # type: ignore[misc]  # a default argument

    shop.delete("namespaceoffloading", "offloading", timeout=120)
    assert not admin(lab.provider, "default").exists("namespace", there.namespace)
    own.delete("virtualnode", "left", "right", timeout=180)


@pytest.fixture
def network(own: Kubectl) -> Iterator[None]:
    """The manager does module `network`, too; there are no agents but probes."""
    files = [str(ROOT / f"deploy/network/{name}.yaml") for name in ("namespace", "rbac")]
    everything = [one for file in files for one in ("-f", file)]
    anywhere = Kubectl(own.binary, own.kubeconfig, "")
    anywhere.run("apply", "--server-side", *everything)
    add = [{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--module=network"}]
    own.run("patch", "deployment", "isthmus-manager", "--type=json", "-p", json.dumps(add))
    own.run("rollout", "status", "deployment/isthmus-manager", _MINUTES, timeout=130)
    yield
    own.delete("networkpeering", "--all", timeout=60)
    # It is in use until the manager has seen the last peering go.
    delete = ("delete", *everything, "--ignore-not-found")
    eventually(lambda: anywhere.result(*delete, timeout=120).returncode == 0, what="the network module to go")


@pytest.mark.timeout(500)
def test_a_node_tells_of_the_network_to_its_provider_by_a_probe_in_its_virtual_kubelets_pod(
    own: Kubectl, network: None
) -> None:
    """The last, for virtual kubelets translate addresses now. Nobody answers: there are no gateways."""
    kind = {"apiVersion": "networking.isthmus.dev/v1alpha1", "kind": "NetworkPeering"}
    peer = {"podCIDRs": ["10.99.0.0/16"], "probeAddresses": ["10.99.0.0"]}
    spec = {"local": {"podCIDRs": ["10.98.0.0/16"]}, "peer": peer}
    own.apply({**kind, "metadata": {"name": "provider"}, "spec": spec}, virtual_node("four"))

    def broken(node: dict[str, Any]) -> bool:
        return any(
            (c["type"], c["reason"]) == ("NetworkUnavailable", "PathBroken") for c in node["status"]["conditions"]
        )

    own.wait_for("node", "four", broken, timeout=120)
    own.wait_for("node", "four", lambda it: any("network-unavailable" in t["key"] for t in it["spec"]["taints"]))
    (pod,) = own.list("pods", "--selector=app.kubernetes.io/instance=four")
    assert ready(pod)
    assert sum(one["restartCount"] for one in pod["status"]["containerStatuses"]) == 0
    own.delete("virtualnode", "four", timeout=180)
