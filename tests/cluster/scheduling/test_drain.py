"""A VirtualNode that is deleted under load: its pods move as budgets allow, and one that is stuck holds up none."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from deploy import stack
from deploy.lab.cluster import LabCluster
from deploy.lab.lab import Lab
from isthmus.providers import Providers
from isthmus.retire import Retirement
from kube.client import Client
from tests import manifests as m
from tests.cluster.scheduling.conftest import Space, pod
from tests.cluster.scheduling.managing import Background, Part
from tests.cluster.scheduling.waiting import LONG, Json
from tests.kubectl import Kubectl, eventually, ready
from vk.virtualnode.controller import VirtualNodes
from vk.virtualnode.settings import VirtualNodeSettings, labels

MANY, LEAST = 12, 8
CONSUMER_ID = "drains"


@pytest.fixture
def names() -> tuple[str, str]:
    """The node that goes, and the one that takes its pods."""
    mark = uuid.uuid4().hex[:6]
    return f"leaving-{mark}", f"staying-{mark}"


@pytest.fixture
def nodes(lab: Lab, with_kinds: LabCluster, names: tuple[str, str]) -> Iterator[list[stack.VirtualNode]]:
    stack.grant(lab.provider, consumer_id=CONSUMER_ID)
    made = [stack.start(lab, node=name, consumer_id=CONSUMER_ID) for name in names]
    for node in made:
        node.wait_ready()
    yield made
    for node in made:
        node.unit.stop()
        with_kinds.kubectl("delete", "node", node.name, "--ignore-not-found")


@pytest.fixture
def controller(lab: Lab, with_kinds: LabCluster, space: Space, tmp_path: Path) -> Iterator[Background]:
    """The manager's controller; the Deployments that it makes find no node, the virtual kubelets run already."""
    kubeconfig = lab.provider.client_kubeconfig(stack.provider_user(CONSUMER_ID), path=tmp_path / "kubeconfig")
    space.kubectl.run("create", "secret", "generic", "provider", f"--from-file=kubeconfig={kubeconfig}")
    settings = VirtualNodeSettings(
        namespace=space.name, image="isthmus.dev/none:1", consumer_id=CONSUMER_ID, server="https://c:6443", ca=b"ca"
    )

    def part(client: Client) -> Part:
        providers = Providers(client, namespace=space.name, consumer_id=CONSUMER_ID, virtual_nodes=lambda: ())
        retirement = Retirement(providers, consumer_id=CONSUMER_ID, others=lambda virtual: [virtual])
        made = VirtualNodes(client, settings, retire=retirement, registry=CollectorRegistry())
        caches = [(name, reflector.run) for name, reflector in made.cache_tasks()]

        async def begun() -> None:
            for _, reflector in made.cache_tasks():
                await reflector.synced.wait()

        return (*caches, ("virtual nodes controller", made.controller.run)), begun

    with Background(with_kinds.admin_kubeconfig, part) as background:
        yield background


def budget(name: str, least: int) -> Json:
    spec = {"minAvailable": least, "selector": {"matchLabels": {"app": name}}}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name}, "spec": spec}


def available(kubectl: Kubectl, name: str, *, node: str = "") -> list[Json]:
    """A workload's pods that serve, on a node or anywhere."""
    found = [pod for pod in kubectl.list("pods", "-l", f"app={name}") if ready(pod)]
    there = [pod for pod in found if node in ("", pod["spec"].get("nodeName"))]
    return [pod for pod in there if "deletionTimestamp" not in pod["metadata"]]


@pytest.mark.timeout(300)
def test_f31_a_virtual_node_deleted_under_load_is_drained_and_leaves_nothing(
    nodes: list[stack.VirtualNode], controller: Background, space: Space
) -> None:
    kubectl, (leaving, staying) = space.kubectl, nodes
    virtual = {
        "apiVersion": "offloading.isthmus.dev/v1alpha1",
        "kind": "VirtualNode",
        "metadata": {"name": leaving.name},
        "spec": {"provider": "north", "kubeconfigSecret": {"name": "provider"}},
    }
    kubectl.create(virtual)
    kubectl.create(pod("process", metadata={"labels": labels(leaving.name)}, nodeSelector={"no": "where"}))
    kubectl.run("cordon", staying.name)
    where = {"values": [leaving.name, staying.name], "key": "kubernetes.io/hostname", "operator": "In"}
    affinity = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [where]}]}
        }
    }
    kubectl.create(m.workload("Deployment", "web", replicas=MANY, affinity=affinity))
    kubectl.create(m.workload("Deployment", "stuck", affinity=affinity))
    for name, least in (("web", LEAST), ("stuck", 1)):
        kubectl.create(budget(name, least))
    eventually(lambda: len(available(kubectl, "web")) == MANY, what="the load", timeout=LONG)
    eventually(lambda: available(kubectl, "stuck"), what="the pod that will be stuck", timeout=LONG)
    kubectl.wait_for("pdb", "web", lambda found: found["status"]["disruptionsAllowed"] == MANY - LEAST, timeout=LONG)
    kubectl.run("uncordon", staying.name)

    kubectl.delete("virtualnode", leaving.name, "--wait=false")
    kubectl.run("scale", "deployment/web", f"--replicas={MANY + 4}")
    fewest = MANY

    def moved() -> bool:
        nonlocal fewest
        fewest = min(fewest, len(available(kubectl, "web")))
        return len(available(kubectl, "web", node=staying.name)) == MANY + 4

    eventually(moved, what="all but one to move", timeout=2 * LONG)
    assert fewest >= LEAST, "the budget was broken"

    def told(found: Json) -> bool:
        drain = found["status"].get("drain") or {}
        return bool(drain.get("remaining") == 1 and len(drain.get("blocked") or ()) == 1)

    drain = kubectl.wait_for("virtualnode", leaving.name, told, timeout=LONG)["status"]["drain"]
    assert drain["evicted"] == drain["total"] - 1 >= MANY
    assert f"{space.name}/stuck-" in drain["blocked"][0]
    assert "disruption budget" in drain["blocked"][0]
    assert kubectl.get("node", leaving.name)["spec"]["unschedulable"]

    deadline = '{"spec": {"drainTimeout": "1s"}}'
    kubectl.run("patch", "virtualnode", leaving.name, "--type=merge", "-p", deadline)
    # The process ends with its Deployment's pods; here a pod stands for it, and the Node stays until that is gone.
    eventually(lambda: not _remote(leaving), what="its remote pods to be gone", timeout=LONG)
    leaving.unit.stop()
    kubectl.delete("pod", "process")
    kubectl.wait_gone("virtualnode", leaving.name, timeout=LONG)
    assert not kubectl.exists("node", leaving.name)
    assert not kubectl.run(
        "get", "deployment,configmap,secret", f"--selector=app.kubernetes.io/instance={leaving.name}", "-o", "name"
    )
    assert len(available(kubectl, "web", node=staying.name)) == MANY + 4


def _remote(node: stack.VirtualNode) -> str:
    selector = f"offloading.isthmus.dev/node={node.name}"
    return node.provider.kubectl("get", "pods", "-A", f"--selector={selector}", "-o", "name").strip()
