"""Where pods go: namespaces made on demand or given by name, quotas that bound the node, and pods that may not go."""

import functools
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from deploy import stack
from deploy.lab.lab import Lab
from tests import manifests as m
from tests.kubectl import Kubectl, KubectlError, eventually, phase, ready

SLEEP = "trap 'exit 0' TERM; sleep 600 & wait"
NODE = "virtual-3"
TAINT = {"key": "example.com/quota", "operator": "Exists", "effect": "NoSchedule"}
HARD = {"pods": "5", "requests.cpu": "1", "requests.memory": "1Gi"}


def warned(kubectl: Kubectl, pod: str, text: str) -> bool:
    events = kubectl.list("events", f"--field-selector=involvedObject.name={pod},type=Warning")
    return any(event["reason"] == "OffloadRefused" and text in event["message"] for event in events)


def refused(pod: dict[str, Any]) -> bool:
    return bool(pod["status"]["reason"] == "OffloadRefused")


def test_a_namespace_is_made_for_the_first_pod_and_removed_after_the_last(consumer: Kubectl, provider: Kubectl) -> None:
    assert not provider.exists("namespace", provider.namespace)
    consumer.apply(m.config_map("settings", a="1"))
    needs = m.shell("main", SLEEP, envFrom=[{"configMapRef": {"name": "settings"}}])
    for name in ("first", "second"):
        consumer.create(m.pod(name, needs))
    for name in ("first", "second"):
        consumer.wait_for("pod", name, ready)
    made = provider.get("namespace", provider.namespace)
    assert made["metadata"]["annotations"]["offloading.isthmus.dev/origin-namespace"] == consumer.namespace
    consumer.delete("pod", "first")
    assert "deletionTimestamp" not in provider.get("namespace", provider.namespace)["metadata"]
    consumer.delete("pod", "second")
    eventually(lambda: _leaves(provider), what="the namespace to be removed", every=0.05)
    consumer.create(m.pod("third", needs))  # while the namespace is on its way out, if that takes a moment
    consumer.wait_for("pod", "third", ready)
    assert provider.get("namespace", provider.namespace)["metadata"]["uid"] != made["metadata"]["uid"]
    consumer.delete("pod", "third")
    provider.wait_gone("namespace", provider.namespace)


def _leaves(provider: Kubectl) -> bool:
    """Whether the namespace is going, or has gone between two looks."""
    try:
        return "deletionTimestamp" in provider.get("namespace", provider.namespace)["metadata"]
    except KubectlError:
        return not provider.exists("namespace", provider.namespace)


def test_a_lost_namespace_is_made_again_with_all_in_it(consumer: Kubectl, provider: Kubectl) -> None:
    consumer.apply(m.config_map("settings", a="1"))
    needs = m.shell("main", SLEEP, envFrom=[{"configMapRef": {"name": "settings"}}])
    consumer.create(m.pod("steady", needs))
    before = consumer.wait_for("pod", "steady", ready)
    provider.delete("namespace", provider.namespace, timeout=90)
    after = consumer.wait_for("pod", "steady", lambda p: ready(p) and _restarts(p) == 1, timeout=90)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


def _restarts(pod: dict[str, Any]) -> int:
    count: int = pod["status"]["containerStatuses"][0]["restartCount"]
    return count


def test_a_strangers_namespace_is_not_taken_over(consumer: Kubectl, provider: Kubectl) -> None:
    provider.run("create", "namespace", provider.namespace)
    before = provider.get("namespace", provider.namespace)
    try:
        consumer.create(m.pod("lost", m.shell("main", SLEEP)))
        pod = consumer.wait_for("pod", "lost", refused)
        assert "was not made by this consumer" in pod["status"]["message"]
        eventually(lambda: warned(consumer, "lost", "was not made by this consumer"), what="the event")
        consumer.delete("pod", "lost")
        after = provider.get("namespace", provider.namespace)
        assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
        assert not provider.list("rolebindings")
    finally:
        provider.delete("namespace", provider.namespace, "--wait=false")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "host-path": ({"volumes": [{"name": "v", "hostPath": {"path": "/etc"}}]}, "spec.volumes[0] (v).hostPath"),
    "claim": ({"volumes": [{"name": "v", "nfs": {"server": "x", "path": "/"}}]}, "spec.volumes[0] (v).nfs"),
    "csi": ({"volumes": [{"name": "v", "csi": {"driver": "x.example.com"}}]}, "spec.volumes[0] (v).csi"),
    "host-network": ({"hostNetwork": True}, "spec.hostNetwork"),
    "host-pid": ({"hostPID": True}, "spec.hostPID"),
    "host-ipc": ({"hostIPC": True}, "spec.hostIPC"),
}


def test_what_can_not_go_is_refused_with_a_reason_and_can_be_deleted(consumer: Kubectl, provider: Kubectl) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "disk"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}, "volumeName": "none"},
    }
    consumer.create(claim)
    port = m.container(ports=[{"containerPort": 8080, "hostPort": 8080}])
    wanted = {name: field for name, (_, field) in REFUSED.items()}
    for name, (fields, _) in REFUSED.items():
        consumer.create(m.pod(name, m.shell("main", SLEEP), **fields))
    consumer.create(m.pod("host-port", port))
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "disk"}}]
    # A claim that is not bound keeps the scheduler from placing the pod; a user may still name the node.
    consumer.create(m.pod("pvc", m.shell("main", SLEEP), volumes=volumes, nodeName="virtual-1", virtual=False))
    wanted |= {"host-port": "spec.containers[0].ports[0].hostPort", "pvc": "spec.volumes[0] (v).persistentVolumeClaim"}
    for name, field in wanted.items():
        pod = consumer.wait_for("pod", name, refused)
        assert pod["status"]["phase"] == "Pending"
        assert field in pod["status"]["message"]
        assert pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "OffloadRefused"
        eventually(functools.partial(warned, consumer, name, field), what=f"the event of {name}")
    assert not provider.list("pods")
    consumer.delete("pod", *wanted, timeout=60)


# -- a fixed mapping, and quotas


@pytest.fixture(scope="module")
def fixed(lab: Lab, vnode: stack.VirtualNode) -> Iterator[tuple[Kubectl, Kubectl]]:
    """A node for one pair of namespaces of other names, as large as the quota there: kubectl in both."""
    home, away = (f"{kind}-{uuid.uuid4().hex[:6]}" for kind in ("home", "away"))
    binary = vnode.consumer.plan.binaries / "kubectl"
    here = Kubectl(binary, vnode.consumer.admin_kubeconfig, namespace=home)
    there = Kubectl(binary, vnode.provider.admin_kubeconfig, namespace=away)
    here.run("create", "namespace", home)
    here.wait_for("serviceaccount", "default")
    stack.grant_namespace(vnode.provider, away, consumer_id="lab")
    there.create({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "share"}, "spec": {"hard": HARD}})
    options = [f"--namespace={home}={away}", f"--quota-namespace={away}", "--taint=example.com/quota=x:NoSchedule"]
    node = stack.start(lab, node=NODE, capacity={}, options=options, log_level="debug")
    try:
        node.wait_ready()
        yield here, there
    finally:
        here.delete("namespace", home, timeout=90)
        node.remove()
        there.delete("namespace", away, "--wait=false")


def small(name: str, cpu: str) -> m.Manifest:
    resources = {"requests": {"cpu": cpu, "memory": "16Mi"}}
    where: dict[str, Any] = {"nodeSelector": {"kubernetes.io/hostname": NODE}, "tolerations": [TAINT]}
    return m.pod(name, m.shell("main", SLEEP, resources=resources), **where)


def test_a_fixed_mapping_is_followed_and_nothing_else_goes(fixed: tuple[Kubectl, Kubectl], consumer: Kubectl) -> None:
    here, there = fixed
    here.create(small("mapped", "10m"))
    here.wait_for("pod", "mapped", ready)
    assert there.get("pod", "mapped")["status"]["phase"] == "Running"
    consumer.create(small("astray", "10m"))
    pod = consumer.wait_for("pod", "astray", refused)
    assert f"--namespace {consumer.namespace}=" in pod["status"]["message"]
    consumer.delete("pod", "astray")
    here.delete("pod", "mapped")
    assert there.exists("namespace", there.namespace)


def test_a_node_is_as_large_as_the_quota_leaves_it(fixed: tuple[Kubectl, Kubectl]) -> None:
    here, there = fixed

    def allocatable(**wanted: str) -> None:
        shown = {name: here.get("node", NODE)["status"]["allocatable"].get(name) for name in wanted}
        assert shown == wanted

    def becomes(**wanted: str) -> None:
        here.wait_for(
            "node",
            NODE,
            lambda n: wanted.items() <= n["status"]["allocatable"].items() <= n["status"]["capacity"].items(),
            what=f"{wanted} on the node",
        )

    becomes(cpu="1", memory="1Gi", pods="5")
    gpu = {"status": {"capacity": {"example.com/gpu": "2"}, "allocatable": {"example.com/gpu": "2"}}}
    here.run("patch", "node", NODE, "--subresource=status", "-p", json.dumps(gpu))
    here.create(small("ours", "200m"))
    here.wait_for("pod", "ours", ready)
    there.wait_for("resourcequota", "share", lambda q: q["status"]["used"]["requests.cpu"] == "200m")
    theirs = m.pod("theirs", m.shell("main", SLEEP, resources={"requests": {"cpu": "300m", "memory": "1Mi"}}))
    there.create({**theirs, "spec": {**theirs["spec"], "nodeSelector": {"no": "such-node"}}})
    becomes(cpu="700m", pods="4")
    there.run("patch", "resourcequota", "share", "-p", json.dumps({"spec": {"hard": {**HARD, "requests.cpu": "2"}}}))
    becomes(cpu="1700m", pods="4")
    there.delete("pod", "theirs")
    becomes(cpu="2", pods="5")
    allocatable(**{"example.com/gpu": "2"})
    here.create(small("too-much", "1900m"))
    unscheduled = here.wait_for("pod", "too-much", lambda p: p["status"]["conditions"][0]["reason"] == "Unschedulable")
    assert phase("Pending")(unscheduled)
    assert not there.exists("pod", "too-much")
    here.delete("pod", "ours", "too-much")
