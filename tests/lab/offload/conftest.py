"""A lab with real kubelets and isthmus between its clusters, shared by all tests of this folder."""

import uuid
from collections.abc import Iterator

import pytest

from deploy import stack
from deploy.lab.lab import Lab
from tests.kubectl import Kubectl


@pytest.fixture(scope="session")
def vnode(lab: Lab) -> Iterator[stack.VirtualNode]:
    """A running virtual node `virtual-1` with the rights of deploy/rbac."""
    stack.grant(lab.provider, consumer_id="lab")
    node = stack.start(lab, options=["--namespace-linger=1", "--reference-linger=1"], log_level="debug")
    node.wait_ready()
    node.wait_serving()
    yield node
    node.unit.check_alive()
    node.unit.stop()


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
    """Makes a namespace and has it removed afterwards."""

    def __init__(self, kubeconfig: object, vnode: stack.VirtualNode) -> None:
        self._vnode = vnode
        self._name = f"t-{uuid.uuid4().hex[:8]}"
        self._kubectl = Kubectl(
            vnode.consumer.plan.binaries / "kubectl", vnode.consumer.admin_kubeconfig, namespace=self._name
        )

    def __enter__(self) -> Kubectl:
        self._kubectl.run("create", "namespace", self._name)
        self._kubectl.wait_for("serviceaccount", "default")
        return self._kubectl

    def __exit__(self, *_error: object) -> None:
        self._kubectl.run("delete", "namespace", self._name, "--wait=false")
