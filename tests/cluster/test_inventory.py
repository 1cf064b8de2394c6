"""A virtual node that offers what the provider's selected nodes have left, and tells the freest."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from deploy import stack
from deploy.lab.components import kwok
from deploy.lab.lab import Lab
from tests import manifests as m
from tests.kubectl import Kubectl, admin, ready

NODE = "counted"
ANNOTATION = "offloading.isthmus.dev/largest-node"


@pytest.fixture(scope="module")
def provider(lab: Lab) -> Iterator[Kubectl]:
    """kubectl at the provider, with a node of the pool `gold` that no other test uses."""
    stack.grant(lab.provider, consumer_id=NODE)
    kubectl = admin(lab.provider, "default")
    kubectl.run("apply", "-f", str(stack.RBAC / "provider-inventory.yaml"))
    role = "--clusterrole=isthmus-virtual-kubelet-inventory"
    kubectl.run("create", "clusterrolebinding", "inventory", role, f"--user={stack.provider_user(NODE)}")
    gold = kwok.node("gold")
    gold["metadata"]["labels"]["pool"] = "gold"
    kubectl.create(gold)
    try:
        kubectl.wait_for("node", "gold", ready)
        yield kubectl
    finally:
        kubectl.delete("node", "gold")
        kubectl.delete("clusterrolebinding", "inventory")


@pytest.fixture(scope="module")
def node(lab: Lab, provider: Kubectl) -> Iterator[stack.VirtualNode]:
    options = ["--provider-nodes=offer", "--node-selector=pool=gold"]
    made = stack.start(lab, node=NODE, consumer_id=NODE, capacity={"memory": "1Ti"}, options=options)
    try:
        made.wait_ready()
        yield made
    finally:
        made.unit.stop()
        lab.consumer.kubectl("delete", "node", NODE)


def shown(node: dict[str, Any]) -> tuple[str, str]:
    """CPU that the Node offers, and that the freest of the provider's has."""
    return node["status"]["allocatable"]["cpu"], json.loads(node["metadata"]["annotations"][ANNOTATION])["cpu"]


def test_the_selected_nodes_count_and_others_use_is_taken_off(
    node: stack.VirtualNode, provider: Kubectl, lab: Lab, namespace: str
) -> None:
    here = admin(lab.consumer, namespace)
    fresh = here.wait_for("node", NODE, lambda n: shown(n) == ("1k", "1k"))
    assert fresh["status"]["allocatable"]["memory"] == "1Ti", "--capacity bounds what the nodes have"
    there = admin(lab.provider, namespace)
    theirs = m.container(resources={"requests": {"cpu": "300"}})
    there.create(m.pod("theirs", theirs, virtual=False, nodeSelector={"pool": "gold"}))
    here.wait_for("node", NODE, lambda n: shown(n) == ("700", "700"))
    ours = m.container(resources={"requests": {"cpu": "200"}})
    here.create(m.pod("ours", ours, nodeName=NODE))
    here.wait_for("node", NODE, lambda n: shown(n) == ("700", "500"))
    remote = admin(lab.provider, f"{namespace}-{NODE}").get("pod", "ours")
    assert remote["spec"]["nodeSelector"] == {"pool": "gold"}
    assert provider.get("node", remote["spec"]["nodeName"])["metadata"]["labels"]["pool"] == "gold"
    there.delete("pod", "theirs")
    here.wait_for("node", NODE, lambda n: shown(n) == ("1k", "800"))
