"""One lab per pair of Kubernetes versions, each with isthmus between its clusters. Not part of `make test`."""

from collections.abc import Iterator

import pytest

from deploy import stack
from deploy.lab import binaries, testing
from deploy.lab.settings import LabSettings
from tests.kubectl import Kubectl

OLD, NEW = "1.33.13", "1.37.2"
PAIRS = [(OLD, OLD), (NEW, NEW), (OLD, NEW), (NEW, OLD)]


@pytest.fixture(scope="module", params=PAIRS, ids=[f"consumer-{c}-provider-{p}" for c, p in PAIRS])
def vnode(request: pytest.FixtureRequest) -> Iterator[stack.VirtualNode]:
    """A virtual node between clusters of these versions."""
    consumer, provider = request.param
    settings = LabSettings(kubernetes=consumer, provider_kubernetes=provider)
    binaries.ensure(settings)
    with testing.temporary(settings) as lab:
        stack.grant(lab.provider, consumer_id="lab")
        node = stack.start(lab)
        node.wait_ready()
        node.wait_serving()
        yield node
        node.unit.check_alive()
        node.unit.stop()


@pytest.fixture
def consumer(vnode: stack.VirtualNode) -> Kubectl:
    """The consumer's own kubectl."""
    return Kubectl(vnode.consumer.plan.binaries / "kubectl", vnode.consumer.admin_kubeconfig)
