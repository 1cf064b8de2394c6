"""A lab with real kubelets and isthmus between its clusters, shared by all tests of this folder."""

import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy import stack
from deploy.lab.lab import Lab
from tests import audit, leftovers
from tests import manifests as m
from tests.history import History
from tests.kubectl import Kubectl, admin, ready

SILENCE = 300
_HERE = Path(__file__).parent
_LAST = _HERE / "test_silence.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What began with the folder's first test ends with its last."""
    last = [item for item in items if item.path == _LAST]
    others = [item for item in items if item.path != _LAST]
    after = max((number for number, item in enumerate(others, start=1) if _HERE in item.path.parents), default=0)
    items[:] = [*others[:after], *last, *others[after:]]


@pytest.fixture(scope="package")
def vnode(lab: Lab) -> Iterator[stack.VirtualNode]:
    """A running virtual node `virtual-1` with the rights of deploy/rbac."""
    stack.grant(lab.provider, consumer_id="lab")
    node = stack.start(lab, options=["--namespace-linger=1", "--reference-linger=1"], log_level="debug")
    node.wait_ready()
    node.wait_serving()
    yield node
    node.unit.check_alive()
    node.remove()
    leftovers.no_nodes(lab)


@dataclass(frozen=True, slots=True)
class Silence:
    """Somebody follows the log of a pod that says nothing for a long time."""

    follower: "subprocess.Popen[bytes]"


@pytest.fixture(scope="package", autouse=True)
def silence(vnode: stack.VirtualNode) -> Iterator[Silence]:
    """Begun before the folder's first test, so that five minutes of waiting are spent beside the others."""
    kubectl = admin(vnode.consumer, f"silence-{uuid.uuid4().hex[:8]}")
    kubectl.run("create", "namespace", kubectl.namespace)
    kubectl.wait_for("serviceaccount", "default")
    script = f"echo before; sleep {SILENCE}; echo after"
    kubectl.create(m.pod("silent", m.shell("main", script), restartPolicy="Never"))
    kubectl.wait_for("pod", "silent", ready)
    follower = kubectl.popen("logs", "-f", "silent", stdout=subprocess.PIPE)
    try:
        yield Silence(follower)
    finally:
        follower.kill()
        follower.communicate()
        kubectl.delete("namespace", kubectl.namespace, timeout=120)


@pytest.fixture
def consumer(vnode: stack.VirtualNode) -> Iterator[Kubectl]:
    """kubectl at the consumer, in a namespace of the test's own that is removed afterwards."""
    with _namespace(vnode.consumer.admin_kubeconfig, vnode) as kubectl:
        yield kubectl


@pytest.fixture
def provider(vnode: stack.VirtualNode, consumer: Kubectl) -> Kubectl:
    """kubectl at the provider, in the namespace that the test's own is mapped to."""
    binary = vnode.provider.plan.binaries / "kubectl"
    return Kubectl(binary, vnode.provider.admin_kubeconfig, namespace=f"{consumer.namespace}-lab")


class _namespace:  # noqa: N801 - used as a function
    """Makes a namespace, looks at all that was done in it by the invariants, and has it removed afterwards."""

    def __init__(self, kubeconfig: object, vnode: stack.VirtualNode) -> None:
        self._vnode = vnode
        self._name = f"t-{uuid.uuid4().hex[:8]}"
        self._kubectl = Kubectl(
            vnode.consumer.plan.binaries / "kubectl", vnode.consumer.admin_kubeconfig, namespace=self._name
        )
        self._offsets = {cluster.name: audit.size(cluster) for cluster in (vnode.consumer, vnode.provider)}

    def __enter__(self) -> Kubectl:
        self._kubectl.run("create", "namespace", self._name)
        self._kubectl.wait_for("serviceaccount", "default")
        return self._kubectl

    def __exit__(self, *_error: object) -> None:
        try:
            self._check()
        finally:
            self._kubectl.delete("namespace", self._name, "--wait=false")

    def _check(self) -> None:
        """I1 to I4 and I7, as far as they hold while pods are still on their way."""
        sides = ((self._vnode.consumer, self._name), (self._vnode.provider, f"{self._name}-lab"))
        if not all(cluster.api.exists(f"/api/v1/namespaces/{name}") for cluster, name in sides):
            return  # nothing was offloaded, or the test removed the namespace itself
        consumer, provider = (
            audit.entries(cluster, name, offset=self._offsets[cluster.name]) for cluster, name in sides
        )
        History(
            node=self._vnode.name,
            node_user=f"system:node:{self._vnode.name}",
            provider_user=stack.provider_user("lab"),
            consumer=consumer,
            provider=provider,
            origins_left=(),
            remotes_left=(),
        ).check(at_rest=False)
