"""Real control planes and two virtual nodes: one that sees them through spoiling proxies, one that sees them directly.

A lab of its own, because the audit log has to hold whole objects, and because API servers are stopped here.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from deploy import stack
from deploy.lab import testing
from deploy.lab.errors import LabError
from deploy.lab.faults import Faults
from deploy.lab.lab import Lab
from deploy.lab.relay import Relay
from deploy.lab.settings import LabSettings
from tests.cluster.faults import proxies, world
from tests.cluster.faults.proxies import Proxy
from tests.cluster.faults.world import CONSUMER_ID, DELAY, World

SPOILED, DIRECT = "spoiled", "direct"
_HERE = Path(__file__).parent
_FAKE_NODES = 2
_OPTIONS = ["--namespace-linger=30"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Faults take their time on a busy machine, and the first test pays for the lab."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="package")
def lab() -> Iterator[Lab]:
    settings = LabSettings(nodes=0, kwok=_FAKE_NODES, audit="RequestResponse")
    with testing.temporary(settings, number=12) as made:
        stack.grant(made.provider, consumer_id=CONSUMER_ID)
        yield made


@pytest.fixture(scope="package")
def between(lab: Lab) -> Iterator[tuple[Proxy, Proxy, Relay]]:
    """Proxies before the consumer and the provider, and a slow relay to the provider."""
    with proxies.running(lab, node=SPOILED, consumer_id=CONSUMER_ID, delay=DELAY) as made:
        yield made


@pytest.fixture(scope="package")
def spoiled_node(lab: Lab, between: tuple[Proxy, Proxy, Relay]) -> Iterator[stack.VirtualNode]:
    started = stack.start(
        lab,
        node=SPOILED,
        consumer_id=CONSUMER_ID,
        options=_OPTIONS,
        consumer_server=between[0].url,
        provider_server=between[1].url,
    )
    with node_of(started) as node:
        yield node


@pytest.fixture(scope="package")
def direct_node(lab: Lab) -> Iterator[stack.VirtualNode]:
    with node_of(stack.start(lab, node=DIRECT, consumer_id=CONSUMER_ID, options=_OPTIONS)) as node:
        yield node


@pytest.fixture
def spoiled(spoiled_node: stack.VirtualNode, between: tuple[Proxy, Proxy, Relay], lab: Lab) -> Iterator[World]:
    """The world of the node that sees both API servers through proxies."""
    with world_of(lab, spoiled_node, {"consumer": between[0], "provider": between[1]}) as made:
        yield made


@pytest.fixture
def direct(direct_node: stack.VirtualNode, lab: Lab) -> Iterator[World]:
    """The world of the node that sees both API servers as they are."""
    with world_of(lab, direct_node, {}) as made:
        yield made


@pytest.fixture
def slow(lab: Lab, between: tuple[Proxy, Proxy, Relay]) -> Iterator[World]:
    """The world of a node whose provider is far away."""
    url = between[2].url
    started = stack.start(lab, node="slow", consumer_id=CONSUMER_ID, options=_OPTIONS, provider_server=url)
    with node_of(started) as node, world_of(lab, node, {}) as made:
        yield made


@pytest.fixture
def resyncing(lab: Lab, between: tuple[Proxy, Proxy, Relay]) -> Iterator[World]:
    """The world of a node that lists anew every few seconds, and sees the provider through a proxy."""
    proxy = between[1]
    options = [*_OPTIONS, "--resync=5"]
    started = stack.start(lab, node="resyncing", consumer_id=CONSUMER_ID, options=options, provider_server=proxy.url)
    with node_of(started) as node, world_of(lab, node, {"provider": proxy}) as made:
        yield made


@contextmanager
def node_of(node: stack.VirtualNode) -> Iterator[stack.VirtualNode]:
    node.wait_ready(timeout=120)
    yield node
    node.unit.check_alive()
    node.unit.stop()


@contextmanager
def world_of(
    lab: Lab,
    node: stack.VirtualNode,
    between: dict[str, Proxy],
    *,
    consumer_id: str = CONSUMER_ID,
    maker: str = "",
) -> Iterator[World]:
    """A fresh namespace; afterwards everything is made whole and the namespaces are removed."""
    name = f"f-{uuid.uuid4().hex[:8]}"
    start = world.marks(node, between)
    lab.consumer.api.request(
        "POST", "/api/v1/namespaces", body={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    )
    lab.consumer.wait_service_account(name)
    faults = Faults(lab)
    made = World(
        node=node,
        faults=faults,
        namespace=name,
        proxies=between,
        marks=start,
        consumer_id=consumer_id,
        maker=maker,
    )
    try:
        yield made
    finally:
        for proxy in between.values():
            proxy.clear()
        faults.heal()
        node.unit.resume()
        if not node.unit.alive:
            node.unit.start()
        for cluster, namespace in ((lab.consumer, name), (lab.provider, made.remote_namespace)):
            with suppress(LabError):
                cluster.api.request("DELETE", f"/api/v1/namespaces/{namespace}")
        node.wait_ready(timeout=120)
