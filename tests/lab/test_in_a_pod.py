"""The virtual kubelet as a pod of the consumer: the example's manifest with the image that the lab builds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import stack
from deploy.lab import isthmus_image
from deploy.lab.lab import Lab
from tests import manifests as m
from tests.kubectl import Kubectl, admin, eventually, ready

NODE = "virtual-1"
CONSUMER_ID = "consumer"
SELECTOR = "app.kubernetes.io/component=virtual-kubelet"


@pytest.fixture(scope="module")
def own(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """kubectl in namespace `isthmus` of the consumer, where the example was applied; nothing of it stays."""
    isthmus_image.load(lab.consumer)
    lab.allow_node(NODE, [])
    stack.grant(lab.provider, consumer_id=CONSUMER_ID)
    files = tmp_path_factory.mktemp("kubeconfigs")
    mine = lab.consumer.client_kubeconfig(
        f"system:node:{NODE}", groups=["system:nodes"], path=files / "consumer.kubeconfig"
    )
    theirs = lab.provider.client_kubeconfig(stack.provider_user(CONSUMER_ID), path=files / "provider.kubeconfig")
    kubectl = admin(lab.consumer, "isthmus")
    try:
        kubectl.run("apply", "-f", str(stack.manifest("virtual-kubelet")))
        kubectl.run("create", "secret", "generic", NODE, f"--from-file={mine}", f"--from-file={theirs}")
        yield kubectl
    finally:
        kubectl.delete("-f", str(stack.manifest("virtual-kubelet")), timeout=120)
        kubectl.delete("node", NODE, "--ignore-not-found")
        remote = f"in-a-pod-{CONSUMER_ID}"  # it lingers, and would be taken for a Tenant's by other tests
        admin(lab.provider, "default").delete("namespace", remote, "--ignore-not-found", timeout=120)


@pytest.fixture
def web(own: Kubectl, lab: Lab) -> Iterator[Kubectl]:
    """kubectl in a namespace of the consumer with an offloaded pod `web`."""
    consumer = admin(lab.consumer, "in-a-pod")
    consumer.run("create", "namespace", consumer.namespace)
    consumer.wait_for("serviceaccount", "default")
    try:
        consumer.create(m.pod("web"))
        yield consumer
    finally:
        consumer.delete("namespace", consumer.namespace, timeout=120)


def serving_pod(own: Kubectl, lab: Lab, *, other_than: str = "") -> str:
    """Name of the virtual kubelet's pod once the Node shows its address; its certificate may be approved from then."""

    def address() -> dict[str, str]:
        for pod in own.list("pods", f"--selector={SELECTOR}"):
            if pod["metadata"]["name"] != other_than and pod["status"].get("podIP"):
                return {"name": pod["metadata"]["name"], "ip": pod["status"]["podIP"]}
        return {}

    found = eventually(address, what="the pod's address", timeout=60)
    lab.allow_node(NODE, [found["ip"]])
    own.wait_for("pod", found["name"], ready)
    shown = {"type": "InternalIP", "address": found["ip"]}
    own.wait_for("node", NODE, lambda node: shown in node["status"]["addresses"] and ready(node))
    return found["name"]


def says_started(kubectl: Kubectl) -> bool:
    return "HTTP server" in kubectl.run("logs", "web")


@pytest.mark.timeout(400)
def test_a_virtual_kubelet_in_a_pod_serves_and_is_replaced_without_a_trace(
    own: Kubectl, web: Kubectl, lab: Lab, tmp_path: Path
) -> None:
    first = serving_pod(own, lab)
    web.wait_for("pod", "web", ready)
    eventually(lambda: says_started(web), what="logs through the pod")
    assert web.run("exec", "web", "--", "echo", "here") == "here\n"
    provider = admin(lab.provider, f"{web.namespace}-{CONSUMER_ID}")
    before = provider.get("pod", "web")

    own.delete("pod", first)
    second = serving_pod(own, lab, other_than=first)
    assert second != first
    eventually(lambda: says_started(web), what="logs through the new pod", timeout=60)
    after = provider.get("pod", "web")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["containerStatuses"] == before["status"]["containerStatuses"]
    assert after["metadata"].get("deletionTimestamp") is None
    assert own.get("pod", second)["status"]["containerStatuses"][0]["restartCount"] == 0
