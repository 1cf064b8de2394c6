"""Spoiled requests of the provider's manager: it makes and ends the remote pods in managed mode, so it is the one whom
a list that is wrong, an answer that is lost or a death in the middle could have end or double them."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from deploy import stack
from deploy.lab.lab import Lab
from deploy.lab.process import Unit
from deploy.lab.proxy import rules
from tests.cluster.faults import proxies, test_kills
from tests.cluster.faults.conftest import world_of
from tests.cluster.faults.proxies import Proxy
from tests.cluster.faults.world import World
from tests.cluster.managed.conftest import SHOP_ID, start_manager

_LISTS = ("/apis/offloading.isthmus.dev/v1alpha1/shadowpods", "/api/v1/pods")
NAMES = ("a", "b")


@pytest.fixture(scope="module")
def proxy(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with proxies.before_provider(lab, user=stack.MANAGER_USER) as made:
        yield made


@pytest.fixture(scope="module")
def spoiled_manager(lab: Lab, node: stack.VirtualNode, manager: Unit, proxy: Proxy) -> Iterator[Unit]:
    """In the other one's place, which gives its lease back."""
    manager.stop()
    unit = start_manager(lab, "manager-spoiled", server=proxy.url)
    yield unit
    unit.check_alive()
    unit.stop()
    lease = lab.provider.api.request("GET", "/apis/coordination.k8s.io/v1/namespaces/isthmus/leases/isthmus-manager")
    manager.start()
    assert not lease["spec"]["holderIdentity"], f"it has to give its lease back:\n{unit.log_tail()}"


@pytest.fixture
def world(lab: Lab, node: stack.VirtualNode, spoiled_manager: Unit, proxy: Proxy) -> Iterator[World]:
    """Its process is the manager: that is who is killed, and whose log counts."""
    judged = replace(node, unit=spoiled_manager)
    with world_of(lab, judged, {"provider": proxy}, consumer_id=SHOP_ID, maker=stack.MANAGER_USER) as made:
        yield replace(made, caller=stack.MANAGER_USER)


def test_f12_i2_i3_empty_lists_end_no_pod_and_double_none(world: World, proxy: Proxy) -> None:
    world.running(*NAMES)
    empty = [proxy.add(rules.empty_list(), path=f"^{path}$", verb="list") for path in _LISTS]
    for path in _LISTS:
        world.list_again("provider", path=path, streaming=False)
    world.until(lambda: all(rule.hits for rule in empty), what="the empty lists")
    resources = ("shadowpods", "pods")
    world.until(
        lambda: all(world.logged("listed", resource=one, objects=0) for one in resources), what="belief in them"
    )
    world.running("c")  # which comes after all that seemed to have gone
    proxy.clear()
    for path in _LISTS:
        world.list_again("provider", path=path)
    world.delete("a")
    world.until_gone("a")
    history = world.check()
    assert [len(history.remotes_of(world.uid(name))) for name in ("b", "c")] == [1, 1]


def test_f12_i2_an_empty_list_of_pods_loses_none_that_may_run_once(world: World, proxy: Proxy) -> None:
    world.held_running("once", restartPolicy="Never")
    _, pods = _LISTS
    empty = proxy.add(rules.empty_list(), path=f"^{pods}$", verb="list")
    since = len(proxy.records)
    world.list_again("provider", path=pods, streaming=False)
    world.until(lambda: empty.hits, what="the empty list")
    world.until(lambda: proxy.seen(path=f"{world.remote_path('once')}$", verb="get", since=since), what="doubts")
    proxy.clear()
    world.list_again("provider", path=pods)
    world.set_remote_status("once", phase="Succeeded")
    world.until_phase("once", phase="Succeeded")
    assert len(world.check().remotes_of(world.uid("once"))) == 1


def test_f4_i2_a_create_whose_answer_is_lost_makes_one_pod(world: World, proxy: Proxy) -> None:
    swallowed = proxy.add(rules.Swallow(), path=f"{world.remote_path()}$", verb="create", times=2)
    world.running("a", "b", "c")
    assert swallowed.hits == 2
    history = world.check()
    assert [len(history.remotes_of(world.uid(name))) for name in ("a", "b", "c")] == [1, 1, 1]


@pytest.mark.timeout(900)
def test_f19_i1_i4_killed_at_any_write_it_goes_on_as_if_nothing_had_been(world: World) -> None:
    test_kills.test_f19_i1_i4_killed_at_any_write_it_goes_on_as_if_nothing_had_been(world)
