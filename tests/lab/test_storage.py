"""Volumes of offloaded pods: made where the pod goes, found again by its successor, gone or kept as the class says."""

from collections.abc import Iterator
from typing import Any

import pytest

from deploy.lab.lab import Lab
from tests import manifests as m
from tests.kubectl import Kubectl, admin, eventually, ready
from tests.lab.test_manager import offloading, own, virtual_node

__all__ = ["own"]

NODE = "stored"
CLASS = "isthmus"
_SIZES = 3


def volume(number: int, path: str) -> dict[str, Any]:
    """A volume of the provider's class `disk`, which knows no provisioner."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"disk-{number}"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "disk",
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": f"{path}/{number}", "type": "DirectoryOrCreate"},
        },
    }


@pytest.fixture(scope="module")
def disks(lab: Lab) -> Iterator[Kubectl]:
    """kubectl at the provider, which has a few volumes of class `disk`."""
    kubectl = admin(lab.provider, "default")
    kubectl.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": "disk"},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        },
        *(volume(number, f"/tmp/{lab.name}-disks") for number in range(_SIZES)),
    )
    try:
        yield kubectl
    finally:
        kubectl.delete("pv", *(f"disk-{number}" for number in range(_SIZES)), "--wait=false")
        kubectl.delete("storageclass", "disk")


@pytest.fixture(scope="module")
def node(own: Kubectl, disks: Kubectl) -> Iterator[Kubectl]:
    own.apply(virtual_node(NODE, classes={"storage": [{"consumer": CLASS, "provider": "disk"}]}))
    own.run("wait", "--for=condition=Ready", "--timeout=120s", f"virtualnode/{NODE}", timeout=130)
    yield own
    own.delete("virtualnode", NODE, timeout=180)


@pytest.fixture
def shop(node: Kubectl, lab: Lab) -> Iterator[Kubectl]:
    consumer = admin(lab.consumer, "stored")
    consumer.run("create", "namespace", consumer.namespace)
    consumer.wait_for("serviceaccount", "default")
    consumer.apply(offloading())
    try:
        yield consumer
    finally:
        consumer.delete("namespace", consumer.namespace, timeout=120)


def writer(name: str, script: str, *, claim: str = "", **volume: Any) -> dict[str, Any]:
    """A pod that runs a script beside its volume at /data and then waits."""
    container = m.shell("main", f"{script}; sleep 1d", volumeMounts=[{"name": "data", "mountPath": "/data"}])
    source = volume or {"persistentVolumeClaim": {"claimName": claim}}
    return m.pod(name, container, volumes=[{"name": "data", **source}])


def claim(name: str) -> dict[str, Any]:
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": CLASS,
        "resources": {"requests": {"storage": "1Gi"}},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


@pytest.mark.timeout(500)
def test_a_stateful_pod_returns_to_its_data_and_the_claim_ends_it(shop: Kubectl, disks: Kubectl) -> None:
    stateful = m.workload(
        "StatefulSet",
        "db",
        m.shell("main", "date >> /data/log; sleep 1d", volumeMounts=[{"name": "data", "mountPath": "/data"}]),
    )
    template = claim("data")
    stateful["spec"]["volumeClaimTemplates"] = [{"metadata": template["metadata"], "spec": template["spec"]}]
    stateful["spec"]["serviceName"] = "db"
    shop.apply(stateful)
    first = shop.wait_for("pod", "db-0", ready, timeout=90)
    eventually(lambda: len(shop.run("exec", "db-0", "--", "cat", "/data/log").splitlines()) == 1, what="a line")
    shop.delete("pod", "db-0")
    eventually(lambda: shop.get("pod", "db-0")["metadata"]["uid"] != first["metadata"]["uid"], what="another pod")
    shop.wait_for("pod", "db-0", ready, timeout=90)
    eventually(lambda: len(shop.run("exec", "db-0", "--", "cat", "/data/log").splitlines()) == 2, what="two lines")

    bound = shop.get("persistentvolumeclaim", "data-db-0")["spec"]["volumeName"]
    remote = admin_of(disks, shop)
    assert remote.get("persistentvolumeclaim", "data-db-0")["spec"]["storageClassName"] == "disk"
    shop.delete("statefulset", "db")
    shop.wait_gone("pod", "db-0")
    assert remote.exists("persistentvolumeclaim", "data-db-0"), "data outlives pods"
    shop.delete("persistentvolumeclaim", "data-db-0")
    shop.wait_gone("persistentvolume", bound)
    remote.wait_gone("persistentvolumeclaim", "data-db-0")


def admin_of(disks: Kubectl, shop: Kubectl) -> Kubectl:
    """kubectl in the provider's namespace for the consumer's."""
    return Kubectl(disks.binary, disks.kubeconfig, f"{shop.namespace}-consumer")


@pytest.mark.timeout(400)
def test_an_ephemeral_volume_goes_with_its_pod(shop: Kubectl, disks: Kubectl) -> None:
    spec = claim("x")["spec"]
    shop.create(writer("brief", "echo here > /data/file", ephemeral={"volumeClaimTemplate": {"spec": spec}}))
    shop.wait_for("pod", "brief", ready, timeout=90)
    assert shop.run("exec", "brief", "--", "cat", "/data/file") == "here\n"
    shop.delete("pod", "brief")
    admin_of(disks, shop).wait_gone("persistentvolumeclaim", "brief-data")


@pytest.mark.timeout(400)
def test_what_cannot_cross_is_said(shop: Kubectl) -> None:
    shop.create(writer("none", "true", claim="nowhere"))
    local = claim("local")
    local["spec"] |= {"storageClassName": "", "volumeName": "here"}
    here = volume(9, "/tmp/nowhere")
    here["metadata"]["name"] = "here"
    here["spec"] |= {"storageClassName": "", "claimRef": {"namespace": shop.namespace, "name": "local"}}
    shop.apply(here, local)
    try:
        shop.wait_for("persistentvolumeclaim", "local", lambda c: c["status"]["phase"] == "Bound")
        shop.create(writer("bound", "true", claim="local"))

        def said(pod: dict[str, Any]) -> bool:
            return "bound to a volume of this cluster" in pod["status"].get("message", "")

        shop.wait_for("pod", "bound", said)
    finally:
        shop.delete("pod", "--all")
        shop.delete("persistentvolume", "here", "--wait=false")
