"""Managed mode with real kubelets, from two bare clusters and back: nothing but `kubectl apply` and `delete`.

The manifests put a manager at each side, an Identity and a Tenant make them peers, a VirtualNode runs an application.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from subprocess import DEVNULL, PIPE
from typing import Any

import pytest

from deploy.lab import isthmus_image
from deploy.lab.lab import Lab
from deploy.lab.paths import ROOT
from tests import manifests as m
from tests.kubectl import Kubectl, admin, eventually, ready
from tests.lab.test_manager import MANIFESTS, READY, offloading, virtual_node
from tests.lab.uninstall import delete_until_allowed, uninstall

CONSUMER_ID = "consumer"
PROVIDER = str(ROOT / "deploy/manager/provider")
_MINUTES = "--timeout=180s"
_NODE = {"kubernetes.io/hostname": "managed"}


@pytest.fixture(scope="module")
def there(lab: Lab) -> Iterator[Kubectl]:
    """The provider's administrator, with its manager running."""
    isthmus_image.load(lab.provider)
    kubectl = admin(lab.provider, "isthmus")
    made = kubectl.run("kustomize", PROVIDER).replace("--advertise-server=", f"--advertise-server={lab.provider.url}")
    try:
        kubectl.run("apply", "--server-side", "-f", "-", stdin=made)
        kubectl.run("wait", "--for=condition=Available", _MINUTES, "deployment/isthmus-manager", timeout=190)
        yield kubectl
    finally:
        delete_until_allowed(kubectl, PROVIDER)


@pytest.fixture(scope="module")
def own(lab: Lab, there: Kubectl) -> Iterator[Kubectl]:
    """The consumer's administrator, with its manager running."""
    isthmus_image.load(lab.consumer)
    kubectl = admin(lab.consumer, "isthmus")
    try:
        kubectl.run("apply", "--server-side", "-k", MANIFESTS)
        kubectl.run("wait", "--for=condition=Available", _MINUTES, "deployment/isthmus-manager", timeout=190)
        yield kubectl
    finally:
        uninstall(kubectl, MANIFESTS)


def exchange(own: Kubectl, there: Kubectl) -> str:
    """Peering: three files applied. Gives the Secret with the kubeconfig for VirtualNodes."""
    identity = {"apiVersion": "authentication.isthmus.dev/v1alpha1", "kind": "Identity"}
    own.apply({**identity, "metadata": {"name": "provider"}, "spec": {}})
    asked = own.wait_for("identity", "provider", lambda it: it["status"]["tenant"])
    there.run("apply", "-f", "-", stdin=asked["status"]["tenant"])
    answer = there.wait_for("tenant", CONSUMER_ID, lambda it: it["status"]["identity"])
    own.run("apply", "-f", "-", stdin=answer["status"]["identity"])
    own.run("wait", READY, _MINUTES, "identity/provider", timeout=190)
    return str(own.get("identity", "provider")["status"]["kubeconfigSecret"])


@pytest.fixture
def shop(own: Kubectl, lab: Lab) -> Iterator[Kubectl]:
    """kubectl in an offloaded namespace of the consumer."""
    consumer = admin(lab.consumer, "desk")
    consumer.run("create", "namespace", consumer.namespace)
    consumer.wait_for("serviceaccount", "default")
    consumer.apply(offloading(namespaceMapping="SelectedName", remoteNamespace="rented"))
    try:
        yield consumer
    finally:
        consumer.delete("namespace", consumer.namespace, timeout=120)


def on_node(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    made = m.workload(kind, name, **fields)
    made["spec"]["template"]["spec"]["nodeSelector"] = _NODE
    return made


@contextmanager
def nobody_home(own: Kubectl) -> Iterator[None]:
    """The consumer's manager and virtual kubelet do not run."""
    names = [one["metadata"]["name"] for one in own.list("deployments")]
    names.sort(key=lambda name: name != "isthmus-manager")  # first the manager, which would start the other again
    for name in names:
        own.run("scale", f"deployment/{name}", "--replicas=0")
        eventually(lambda name=name: not running(own, name), what=f"{name} to stop", timeout=90)  # type: ignore[misc]  # a default argument
    try:
        yield
    finally:
        for name in names:
            own.run("scale", f"deployment/{name}", "--replicas=1")


def running(own: Kubectl, deployment: str) -> bool:
    return any(pod["metadata"]["name"].startswith(f"{deployment}-") for pod in own.list("pods"))


def set_state(there: Kubectl, state: str) -> None:
    """Of the Tenant, by its administrator."""
    patch = json.dumps({"spec": {"state": state}})
    there.run("patch", "tenant", CONSUMER_ID, "--type=merge", "-p", patch)


def drained_ends_streams(own: Kubectl, shop: Kubectl, there: Kubectl, pod: str) -> None:
    """Who is at work in the pod of a tenant that is drained is out within a minute; then the tenant is let in again."""
    commands = (("exec", pod, "--", "sh", "-c", "echo there; sleep 1000"), ("logs", "--follow", "--since=1h", pod))
    eventually(lambda: shop.run("exec", pod, "--", "echo", "back"), what="the virtual kubelet to be back", timeout=120)
    with ExitStack() as stack:
        streams = [stack.enter_context(shop.popen(*c, stdout=PIPE, stderr=DEVNULL)) for c in commands]
        for stream in streams:
            stack.callback(stream.kill)
            assert stream.stdout is not None
            assert stream.stdout.readline(), "it is there before the end is"
        set_state(there, "Drained")
        deadline = time.monotonic() + 60
        for stream in streams:
            stream.wait(timeout=max(1.0, deadline - time.monotonic()))
    set_state(there, "Active")
    own.run("wait", READY, _MINUTES, "identity/provider", "virtualnode/managed", timeout=190)


@pytest.mark.timeout(600)
def test_from_two_bare_clusters_to_a_deployment_that_the_provider_keeps_and_back(
    own: Kubectl, shop: Kubectl, there: Kubectl, lab: Lab
) -> None:
    secret = exchange(own, there)
    own.apply(virtual_node("managed", mode="Managed", kubeconfigSecret={"name": secret}))
    own.run("wait", READY, _MINUTES, "virtualnode/managed", timeout=190)
    shop.run("wait", READY, _MINUTES, "namespaceoffloading/offloading", timeout=190)
    shop.apply(
        on_node("Deployment", "web"),
        m.job("once", m.container("main", "help"), restartPolicy="OnFailure", nodeSelector=_NODE),
    )
    remote = admin(lab.provider, "rented")
    pod = eventually(
        lambda: next((p for p in shop.list("pods", "--selector=app=web") if ready(p)), None), what="a pod", timeout=120
    )
    assert pod is not None
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    assert {s["metadata"]["name"] for s in remote.list("shadowpods")} >= {name}
    eventually(lambda: "HTTP server" in shop.run("logs", name), what="logs", timeout=60)
    assert "Usage" in shop.run("exec", name, "--", "/agnhost", "help")
    shop.run("wait", "--for=condition=Complete", _MINUTES, "job/once", timeout=190)
    done = shop.list("pods", "--selector=app=once")[0]["metadata"]["name"]

    first = remote.get("pod", name)["metadata"]["uid"]
    with nobody_home(own):
        remote.delete("pod", name, done, "--wait=false")
        eventually(lambda: remote.get("pod", name)["metadata"]["uid"] != first, what="another pod", timeout=90)
        eventually(lambda: ready(remote.get("pod", name)), what="it to be ready", timeout=90)
        eventually(lambda: not remote.exists("pod", done), what="the Job's pod to go", timeout=90)
    shop.wait_for("pod", name, lambda p: ready(p) and p["metadata"]["uid"] == uid, timeout=120)
    assert not remote.exists("pod", done)
    assert shop.get("pod", done)["status"]["phase"] == "Succeeded"

    drained_ends_streams(own, shop, there, name)

    shop.delete("deployment,job", "--all", timeout=120)
    shop.delete("namespaceoffloading", "offloading", timeout=120)
    assert not there.exists("namespace", "rented")
    own.delete("virtualnode", "managed", timeout=180)
    assert not admin(lab.provider, f"isthmus-{CONSUMER_ID}").list("namespacemaps")
    own.delete("identity", "provider", timeout=60)
    there.delete("tenant", CONSUMER_ID, timeout=120)
    # The key waits for an Identity of its name, unless somebody wants it gone.
    left = [one for one in own.list("secrets") if "provider" in one["metadata"]["name"]]
    assert [one["metadata"]["name"] for one in left] == ["identity-provider"]
    assert "authentication.isthmus.dev/kept-until" in left[0]["metadata"]["annotations"]
    own.delete("secret", "identity-provider")
    assert not there.exists("namespace", f"isthmus-{CONSUMER_ID}")


def invitation(lab: Lab) -> str:
    """What the provider's administrator has printed for the consumer's."""
    command = [
        *(sys.executable, "-m", "isthmus", "peer", "invite", f"--kubeconfig={lab.provider.admin_kubeconfig}"),
        *(f"--consumer-id={CONSUMER_ID}", "--resource=cpu=1", "--resource=pods=3", "--slice-class=default"),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, cwd=ROOT).stdout


@pytest.mark.timeout(600)
def test_by_an_invitation_and_a_slice_with_its_own_node_to_a_pod_and_back(
    own: Kubectl, shop: Kubectl, there: Kubectl, lab: Lab
) -> None:
    own.run("apply", "-f", "-", stdin=invitation(lab))
    own.run("wait", READY, _MINUTES, "identity/provider", timeout=190)
    some = {"cpu": "500m", "memory": "256Mi", "pods": "5"}
    spec = {"identity": "provider", "resources": some, "virtualNode": {"labels": {"tier": "gold"}}}
    kind = {"apiVersion": "authentication.isthmus.dev/v1alpha1", "kind": "ResourceSlice"}
    own.apply({**kind, "metadata": {"name": "managed"}, "spec": spec})
    own.run("wait", "--for=condition=Granted", _MINUTES, "slice/managed", timeout=190)
    assert own.get("slice", "managed")["status"]["granted"] == {**some, "pods": "3"}
    own.run("wait", READY, _MINUTES, "virtualnode/managed", timeout=190)
    node = own.get("node", "managed")
    assert node["metadata"]["labels"]["tier"] == "gold"
    assert (node["status"]["allocatable"]["cpu"], node["status"]["allocatable"]["pods"]) == ("500m", "3")
    shop.run("wait", READY, _MINUTES, "namespaceoffloading/offloading", timeout=190)
    shop.apply(on_node("Deployment", "web"))
    shop.run("rollout", "status", "deployment/web", _MINUTES, timeout=190)
    name = shop.list("pods", "--selector=app=web")[0]["metadata"]["name"]
    assert admin(lab.provider, "rented").get("pod", name)["status"]["phase"] == "Running"
    assert "Usage" in shop.run("exec", name, "--", "/agnhost", "help")

    own.delete("slice", "managed", timeout=180)
    assert not own.exists("virtualnode", "managed")
    shop.delete("namespaceoffloading", "offloading", timeout=120)
    own.run("annotate", "identity", "provider", "authentication.isthmus.dev/force-removal=true")
    own.delete("identity", "provider", timeout=60)
    there.delete("tenant", CONSUMER_ID, timeout=120)
    for gone in ("rented", f"isthmus-{CONSUMER_ID}"):
        assert not there.exists("namespace", gone)
    left = {one["metadata"]["name"] for one in own.list("secrets")}
    assert not {name for name in left if "provider" in name and not name.startswith("invitation")}
