"""Two virtual kubelets of one provider, as processes, with their node identities and the rights of `deploy/rbac`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from deploy import stack
from deploy.lab.lab import Lab
from kube.resources import LEASES, SERVICES
from reflection.kinds.endpointslice import ENDPOINT_SLICES
from reflection.kinds.owner import DURATION, lease_name
from tests.cluster.kinds.cases import addresses, service, slice_of
from tests.cluster.kinds.conftest import RBAC, bind
from tests.cluster.kinds.world import CONSUMER_ID, World

NODES = ("kinds-1", "kinds-2")


@contextmanager
def running(lab: Lab, world: World, node: str) -> Iterator[stack.VirtualNode]:
    binding = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"isthmus-kinds-nodes-{node}"},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "isthmus-kinds-nodes"},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": f"system:node:{node}"}],
    }
    lab.consumer.api.apply(binding)
    bind(lab.consumer, world.namespace, "isthmus-kinds", f"system:node:{node}", name=f"isthmus-kinds-{node}")
    options = [
        f"--namespace={world.namespace}={world.remote_namespace}",
        "--provider=shared",
        "--reflect-kinds=default",
        f"--kinds-election-namespace={world.remote_namespace}",
    ]
    started = stack.start(lab, node=node, consumer_id=CONSUMER_ID, options=options)
    try:
        yield started
    finally:
        started.unit.stop()
        lab.consumer.kubectl("delete", "node", node, "--ignore-not-found")


@pytest.mark.timeout(300)
async def test_one_of_two_processes_does_the_work_and_the_other_takes_over(lab: Lab, world: World) -> None:
    endpoints = [
        {"addresses": [f"203.0.113.{number}"], "nodeName": node}
        for number, node in enumerate((*NODES, "worker"), start=1)
    ]
    with ExitStack() as held:
        nodes = {name: held.enter_context(running(lab, world, name)) for name in NODES}
        for node in nodes.values():
            node.wait_ready(timeout=120)
        await world.create(SERVICES, service(selector=None))
        await world.create(ENDPOINT_SLICES, slice_of("web", "web", *endpoints))
        await world.until_remote(SERVICES, "web")
        # Only what is on neither of the provider's two virtual nodes.
        await world.until_remote(ENDPOINT_SLICES, "web", lambda found: addresses(found) == ["203.0.113.3"])
        owner = await holder(world)
        nodes[owner].unit.kill()
        await world.create(SERVICES, service("later"))
        await world.until_remote(SERVICES, "later")
        (left,) = set(NODES) - {owner}
        assert await holder(world) == left
        nodes[owner].unit.start()
        nodes[owner].wait_ready(timeout=120)

        nodes[left].unit.pause()
        await world.create(SERVICES, service("last"))
        await world.until_remote(SERVICES, "last")
        assert await holder(world) == owner
        nodes[left].unit.resume()
        nodes[left].wait_ready(timeout=120)
        await asyncio.sleep(2 * DURATION)  # time in which it could take the lease again
        assert await holder(world) == owner
        lease = await world.remote(LEASES, lease_name(CONSUMER_ID))
        assert lease is not None
        assert lease["spec"]["leaseTransitions"] == 2, "one for each owner that was lost, and no flapping"
        for node in nodes.values():
            node.unit.check_alive()
            assert "Traceback" not in node.unit.log.read_text()


async def holder(world: World) -> str:
    """The node whose process does the work."""
    lease = await world.remote(LEASES, lease_name(CONSUMER_ID))
    assert lease is not None
    found: str = lease["spec"]["holderIdentity"]
    return found.split("/", maxsplit=1)[0]
