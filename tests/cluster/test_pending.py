"""A pod that fits the node's sum and no single node of the provider: said, and with a limit evicted to go elsewhere."""

from collections.abc import Iterator
from typing import Any

import pytest

from deploy import stack
from deploy.lab.lab import Lab
from tests import manifests as m
from tests.kubectl import Kubectl, admin, eventually

NODE = "cramped"
HUGE = m.container(resources={"requests": {"cpu": "1500"}})


@pytest.fixture(scope="module")
def node(lab: Lab) -> Iterator[stack.VirtualNode]:
    stack.grant(lab.provider, consumer_id=NODE)
    capacity = {"cpu": "5000", "memory": "64Gi", "pods": "10"}
    made = stack.start(lab, node=NODE, consumer_id=NODE, capacity=capacity, options=["--pending-timeout=1s"])
    try:
        made.wait_ready()
        yield made
    finally:
        made.unit.stop()
        lab.consumer.kubectl("delete", "node", NODE)


@pytest.fixture
def kubectl(node: stack.VirtualNode, lab: Lab, namespace: str) -> Kubectl:
    return admin(lab.consumer, namespace)


def owned(kubectl: Kubectl) -> dict[str, Any]:
    """Metadata of a pod whose controller would make another."""
    owner = kubectl.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}})["metadata"]
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["uid"], "controller": True}
    return {"ownerReferences": [reference]}


def told(kubectl: Kubectl, pod: str) -> str:
    selector = f"--field-selector=involvedObject.name={pod},reason=PendingTimeout"
    return " ".join(event["message"] for event in kubectl.list("events", selector))


def test_a_pod_without_a_place_is_evicted_and_the_node_says_so(kubectl: Kubectl) -> None:
    kubectl.create(m.pod("huge", HUGE, metadata=owned(kubectl), nodeName=NODE))
    kubectl.wait_gone("pod", "huge")
    message = eventually(lambda: told(kubectl, "huge"), what="an event")
    assert "evicted" in message
    assert "Insufficient cpu" in message

    def failing(shown: dict[str, Any]) -> bool:
        conditions = {c["type"]: c for c in shown["status"]["conditions"]}
        condition = conditions["PlacementFailing"]
        return condition["status"] == "True" and "Insufficient cpu" in condition["message"]

    kubectl.wait_for("node", NODE, failing)


def test_a_pod_that_nobody_would_make_again_is_only_told_of(kubectl: Kubectl) -> None:
    kubectl.create(m.pod("alone", HUGE, nodeName=NODE))
    message = eventually(lambda: told(kubectl, "alone"), what="an event")
    assert "no controller" in message
    assert "deletionTimestamp" not in kubectl.get("pod", "alone")["metadata"]
    small = m.container(resources={"requests": {"cpu": "1"}})
    kubectl.create(m.pod("small", small, nodeName=NODE))
    kubectl.wait_for("pod", "small", lambda pod: pod["status"]["phase"] == "Running")
    assert not told(kubectl, "small")
