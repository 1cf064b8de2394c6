"""Outages as long as they are in life: a minute each, and ten where ISTHMUS_LONG_TESTS asks for it."""

import os
import time

import pytest

from deploy.lab.proxy.rules import dropped_events
from tests.cluster.faults.world import World
from tests.history import NOTICED

MINUTE = 60.0
ETERNAL = [{"operator": "Exists"}]
"""Tolerations of a pod that nobody evicts while its node is unready."""
DURATIONS = [MINUTE, 10 * MINUTE] if os.environ.get("ISTHMUS_LONG_TESTS") else [MINUTE]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seconds", DURATIONS)
def test_f3_i1_i2_i3_i6_a_long_partition_leaves_everything_running(direct: World, seconds: float) -> None:
    direct.running("a", "b", tolerations=ETERNAL)
    direct.held_running("c", tolerations=ETERNAL)
    with direct.provider_away(direct.faults.link_cut(direct.node.name, "provider")):
        direct.create("d", tolerations=ETERNAL)
        direct.delete("a")
        direct.set_remote_status("c", restarts=1)
        time.sleep(seconds)  # what is tested is that this much time may pass
        assert {pod["metadata"]["name"] for pod in direct.pods()} == {"a", "b", "c", "d"}
        assert {pod["metadata"]["name"] for pod in direct.remotes()} == {"a", "b", "c"}
        assert direct.restarts("c") == 0
    direct.until_restarts("c", 1)
    direct.until_phase("b", "c", "d")
    direct.until_gone("a")
    history = direct.check()
    assert [len(history.remotes_of(direct.uid(name))) for name in ("b", "c", "d")] == [1, 1, 1]
    came_back = next(at for at, state in history.ready() if at > direct.outages[0][1] and state == "True")
    assert came_back - direct.outages[0][1] < NOTICED  # five seconds on a machine that is not busy


def test_f20_i3_frozen_for_a_minute_it_acts_on_what_is_there_when_it_wakes(direct: World) -> None:
    direct.running("a", "b", "c", tolerations=ETERNAL)
    old = direct.uid("b")
    direct.node.unit.pause()
    direct.delete("a", grace=0)
    direct.delete("b", grace=0)
    direct.create("b", tolerations=ETERNAL)
    direct.provider.request("DELETE", direct.remote_path("c"))
    direct.until(lambda: not direct.remote("c"), what="the remote pod to be gone")
    time.sleep(MINUTE)  # as long as a node's lease lasts, and longer: it is taken for dead
    direct.until(lambda: direct.node.condition()["status"] == "Unknown", what="the node to be given up")
    direct.node.unit.resume()
    direct.node.wait_ready(timeout=MINUTE)
    direct.until_gone("a")
    direct.until_remote("b", "c")
    direct.until_phase("b", "c")
    history = direct.check()
    assert len(history.remotes_of(old)) == 1
    assert len(history.remotes_of(direct.uid("b"))) == 1
    assert len(history.remotes_of(direct.uid("c"))) == 2


def test_f9_i5_an_event_that_was_lost_is_made_good_by_the_periodic_list(resyncing: World) -> None:
    resyncing.held_running("a")
    lost = resyncing.provider_proxy.add(dropped_events(), path=f"/{resyncing.remote_namespace}/pods$")
    resyncing.set_remote_status("a", restarts=1)
    resyncing.until(lambda: lost.hits, what="the event to be lost")
    resyncing.provider_proxy.remove(lost)
    resyncing.until_restarts("a", 1)
    assert resyncing.logged("listed", cause="resync")
    resyncing.check()
