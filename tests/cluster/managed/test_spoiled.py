"""Spoiled requests in managed mode: the virtual node sees both API servers through proxies, and asks by ShadowPods.

What is done to it, and what is wanted of it, is what the fault suite does and wants in direct mode; the manager, which
makes the remote pods, is spoiled at the end.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from deploy import stack
from deploy.lab.api import StatusError
from deploy.lab.lab import Lab
from deploy.lab.process import Unit
from deploy.lab.proxy import rules
from tests.cluster.faults import proxies, test_kills, test_lists, test_writes
from tests.cluster.faults.conftest import node_of, world_of
from tests.cluster.faults.proxies import Proxy
from tests.cluster.faults.world import World
from tests.cluster.managed.conftest import SPOILED_ID

NODE = "managed-spoiled"
MAPS = "/namespacemaps"


@pytest.fixture(scope="module")
def between(lab: Lab, manager: Unit) -> Iterator[tuple[Proxy, Proxy]]:
    stack.admit(lab.provider, consumer_id=SPOILED_ID)
    with proxies.running(lab, node=NODE, consumer_id=SPOILED_ID, delay=0) as (consumer, provider, _):
        yield consumer, provider


@pytest.fixture(scope="module")
def spoiled_node(lab: Lab, between: tuple[Proxy, Proxy]) -> Iterator[stack.VirtualNode]:
    started = stack.start(
        lab,
        node=NODE,
        consumer_id=SPOILED_ID,
        options=["--mode=managed", "--namespace-linger=30"],
        consumer_server=between[0].url,
        provider_server=between[1].url,
    )
    with node_of(started) as node:
        yield node


@pytest.fixture
def spoiled(lab: Lab, spoiled_node: stack.VirtualNode, between: tuple[Proxy, Proxy]) -> Iterator[World]:
    sides = dict(zip(("consumer", "provider"), between, strict=True))
    with world_of(lab, spoiled_node, sides, consumer_id=SPOILED_ID, maker=stack.MANAGER_USER) as made:
        yield made


@pytest.mark.parametrize(
    "check",
    [
        test_lists.test_f12_i3_an_empty_list_of_the_consumer_deletes_nothing,
        test_lists.test_f12_i1_i2_an_empty_list_of_the_provider_loses_nothing,
        test_lists.test_f6_i3_positions_that_expired_are_listed_anew,
        test_lists.test_f8_i4_events_that_come_twice_or_again_change_nothing,
        test_lists.test_f9_i5_an_event_that_was_lost_is_made_good_by_the_next_list,
        test_lists.test_f10_a_bookmark_alone_moves_the_point_to_resume_from,
        test_lists.test_f11_i3_a_list_that_breaks_between_pages_is_not_taken_for_whole,
        test_lists.test_f13_i4_a_list_from_the_past_is_not_believed,
        test_writes.test_f4_i2_a_create_whose_answer_is_lost_makes_one_pod,
        test_writes.test_f14_i5_a_second_writer_does_not_keep_it_from_agreeing,
    ],
    ids=lambda check: check.__name__.removeprefix("test_"),
)
def test_as_in_direct_mode(spoiled: World, check: Callable[[World], None]) -> None:
    check(spoiled)


def test_f15_i7_it_waits_as_long_as_it_is_told(spoiled: World) -> None:
    test_writes.test_f15_i7_it_waits_as_long_as_it_is_told(spoiled, 429)


@pytest.mark.parametrize("kind", test_writes.NONSENSE)
def test_f17_answers_that_make_no_sense_do_no_harm(spoiled: World, kind: str) -> None:
    test_writes.test_f17_answers_that_make_no_sense_do_no_harm(spoiled, kind)


@pytest.mark.parametrize("reached", [True, False], ids=["executed", "lost"])
def test_f18_i1_i2_killed_after_a_request_whose_answer_was_lost_it_goes_on_with_it(
    spoiled: World, reached: bool
) -> None:
    test_writes.test_f18_i1_i2_killed_after_a_create_whose_answer_was_lost_it_adopts_the_pod(spoiled, reached)


@pytest.mark.timeout(900)
def test_f19_i1_i4_killed_at_any_write_it_goes_on_as_if_nothing_had_been(spoiled: World) -> None:
    test_kills.test_f19_i1_i4_killed_at_any_write_it_goes_on_as_if_nothing_had_been(spoiled)


def test_a_namespace_that_was_found_is_not_asked_for_again_while_its_watch_is_away(spoiled: World) -> None:
    """As after a partition, before that watch is tried again: pods must not wait for it, nor for more answers."""
    with unwatched_maps(spoiled):
        spoiled.running("a")
        asked = len(spoiled.provider_proxy.records)
        spoiled.running("b", "c")
        assert not spoiled.provider_proxy.seen(path=f"{MAPS}/{spoiled.namespace}$", since=asked)
    spoiled.check()


def test_a_namespace_that_went_while_its_watch_is_away_is_asked_for_anew(spoiled: World) -> None:
    """What was found is forgotten when a write says that it is no more."""
    path = f"/apis/offloading.isthmus.dev/v1alpha1/namespaces/isthmus-{SPOILED_ID}{MAPS}/{spoiled.namespace}"
    remote = f"/api/v1/namespaces/{spoiled.remote_namespace}"
    with unwatched_maps(spoiled):
        spoiled.running("a")
        spoiled.delete("a")
        spoiled.until_gone("a")
        before = spoiled.provider.request("GET", remote)["metadata"]["uid"]
        spoiled.provider.request("DELETE", path)
        spoiled.until(lambda: _uid(spoiled, remote) != before, what="the namespace to go")
        spoiled.running("b")
        assert _uid(spoiled, remote) not in ("", before)


def _uid(world: World, path: str) -> str:
    try:
        return str(world.provider.request("GET", path)["metadata"]["uid"])
    except StatusError as error:
        if error.status == 404:
            return ""
        raise


@contextmanager
def unwatched_maps(world: World) -> Iterator[None]:
    """The virtual node's watch of NamespaceMaps fails meanwhile; afterwards it is there."""
    proxy = world.provider_proxy
    proxy.add(rules.status(503, "ServiceUnavailable", "not now"), path=f"{MAPS}$", verb="watch")
    proxy.break_watches(path=MAPS)
    yield
    proxy.clear()
    world.until(lambda: proxy.watches(path=MAPS), what="the watch of NamespaceMaps")
