"""Faults in managed mode: what the fault suite asks of a virtual node in direct mode, and the manager's own.

The provider's manager makes and removes the remote pods here, so it is the one whose deeds are judged.
"""

from collections.abc import Callable, Iterator

import pytest

from deploy import stack
from deploy.lab.api import StatusError
from deploy.lab.lab import Lab
from deploy.lab.process import Unit
from tests.cluster.faults import test_outages as direct
from tests.cluster.faults.conftest import world_of
from tests.cluster.faults.world import Json, World
from tests.cluster.managed.conftest import SHOP_ID


@pytest.fixture
def world(lab: Lab, node: stack.VirtualNode) -> Iterator[World]:
    with world_of(lab, node, {}, consumer_id=SHOP_ID, maker=stack.MANAGER_USER) as made:
        yield made


@pytest.mark.parametrize(
    "check",
    [
        direct.test_f3_i6_a_partition_is_told_and_healed,
        direct.test_f4_i2_requests_arrive_and_answers_do_not,
        direct.test_f28_i3_force_deleted_in_a_partition_the_remote_pod_goes_after_it,
    ],
    ids=lambda check: check.__name__.removeprefix("test_"),
)
def test_as_in_direct_mode(world: World, check: Callable[[World], None]) -> None:
    check(world)


def shadow(world: World, name: str) -> Json | None:
    """A ShadowPod as the provider's administrator sees it."""
    path = f"/apis/offloading.isthmus.dev/v1alpha1/namespaces/{world.remote_namespace}/shadowpods/{name}"
    try:
        return world.provider.request("GET", path)
    except StatusError as error:
        if error.status == 404:
            return None
        raise


def remote_uid(world: World, name: str) -> str:
    """UID of a remote pod; empty if there is none."""
    found = world.remote(name)
    return str(found["metadata"]["uid"]) if found is not None else ""


def withdrawn(world: World, name: str) -> bool:
    found = shadow(world, name)
    return found is None or "deletionTimestamp" in found["metadata"]


def test_f21_i1_i3_manager_and_node_away_in_turn_what_was_asked_is_done_once(world: World, manager: Unit) -> None:
    """Pods are asked for and taken back while the manager is dead, and one vanishes while the virtual node is."""
    world.running("a", "b")
    manager.kill()
    world.create("c")
    world.delete("a")
    world.until(lambda: shadow(world, "c"), what="the virtual node to ask for c")
    world.until(lambda: withdrawn(world, "a"), what="it to take a back")
    assert world.remote("a"), "nobody ends pods while the manager is away"
    assert world.pod("a")
    assert not world.remote("c")

    world.node.unit.kill()
    manager.start()
    world.until_remote("c")
    world.until(lambda: not world.remote("a"), what="the end of a")
    first = remote_uid(world, "b")
    world.provider.request("DELETE", world.remote_path("b"))
    world.until(lambda: remote_uid(world, "b") not in ("", first), what="the pod that vanished")
    world.node.unit.start()
    world.node.wait_ready(timeout=120)
    world.until_phase("b", "c")
    world.until_gone("a")
    history = world.check()
    assert [len(history.remotes_of(world.uid(name))) for name in ("b", "c")] == [2, 1]
