"""Faults of whole parts: API servers restarted or frozen, links cut, our own process frozen or killed."""

import time

from deploy import stack
from deploy.lab.faults import API_SERVER
from tests.cluster.faults.world import CONSUMER_ID, World

_AT_ONCE = ("b", "c", "d")


def test_f1_i6_the_consumer_restarts(direct: World) -> None:
    direct.running("a", "b")
    direct.faults.restart("consumer", API_SERVER)
    direct.running("c")
    direct.delete("a")
    direct.until_gone("a")
    history = direct.check()
    assert [len(history.remotes_of(direct.uid(name))) for name in ("b", "c")] == [1, 1]


def test_f2_i1_i6_what_is_done_while_the_provider_restarts_is_made_good(direct: World) -> None:
    direct.running("a", "b")
    with direct.provider_away(direct.faults.stopped("provider", API_SERVER)):
        direct.create("c")
        direct.delete("a")
        assert direct.pod("a"), "a pod may not go while nobody knows of its remote pod"
    direct.until_phase("c")
    direct.until_gone("a")
    history = direct.check()
    assert [len(history.remotes_of(direct.uid(name))) for name in ("b", "c")] == [1, 1]


def test_f3_i6_a_partition_is_told_and_healed(direct: World) -> None:
    direct.running("a", "b")
    with direct.provider_away(direct.faults.link_cut(direct.node.name, "provider")):
        direct.create("c")
        direct.delete("a")
        direct.until(lambda: direct.node.condition()["status"] == "False", what="the Node to be unready")
        assert direct.remote("a")
        assert direct.remote("b")
        assert direct.pod("a"), "a pod may not go while nobody knows of its remote pod"
    direct.until_phase("b", "c")
    direct.until_gone("a")
    history = direct.check()
    assert [len(history.remotes_of(direct.uid(name))) for name in ("b", "c")] == [1, 1]


def test_f4_i2_requests_arrive_and_answers_do_not(direct: World) -> None:
    """Nobody can connect then, so only those arrive for which a connection is there and idle. Whether one is, is not in
    our hands (what is left of the test before takes some), so there are cuts until a request has arrived."""
    direct.running("a")
    made: list[str] = []
    while not any(_created_in_a_cut(direct, made)):
        assert len(made) < 5 * len(_AT_ONCE), "no request arrived in any cut"
    history = direct.check()
    assert [len(history.remotes_of(direct.uid(name))) for name in made] == [1] * len(made)


def _created_in_a_cut(direct: World, made: list[str]) -> list[bool]:
    """Which of these new pods are at the provider before the cut ends; `made` is told of them."""
    names = [f"{one}-{len(made)}" for one in _AT_ONCE]
    made += names
    with direct.provider_away(direct.faults.link_cut("provider", direct.node.name, one_way=True)):
        direct.create(*names)
        direct.within(5, lambda: any(map(direct.remote, names)))
        arrived = [direct.remote(name) is not None for name in names]
    direct.until_phase(*names)
    return arrived


def test_f5_i6_a_provider_that_falls_silent_is_noticed_in_time(direct: World) -> None:
    direct.held_running("a")
    with direct.provider_away(direct.faults.paused("provider", API_SERVER)):
        direct.until(lambda: direct.node.condition()["status"] == "False", what="the Node to be unready")
    direct.set_remote_status("a", restarts=1)
    direct.until_restarts("a", 1)
    direct.check()  # that the Node told of it in time, too


def test_i7_a_restart_that_finds_all_in_step_writes_nothing(direct: World) -> None:
    direct.running("a", "b")
    direct.check()
    direct.node.unit.stop()
    began = time.time()
    direct.node.unit.start()
    direct.delete("a")
    direct.until_gone("a")
    user = stack.provider_user(CONSUMER_ID)
    writes = [(e.verb, e.resource, e.name) for e in direct.check().provider if e.user == user and e.began > began]
    assert [write for write in writes if write[0] not in ("get", "list", "watch")] == [("delete", "pods", "a")]


def test_f20_i3_frozen_it_acts_on_what_is_there_when_it_wakes(direct: World) -> None:
    direct.running("a", "b", "c")
    old = direct.uid("b")
    direct.node.unit.pause()
    direct.delete("a", grace=0)
    direct.delete("b", grace=0)
    direct.create("b")
    direct.provider.request("DELETE", direct.remote_path("c"))
    direct.until(lambda: not direct.remote("c"), what="the remote pod to be gone")
    direct.node.unit.resume()
    direct.until_gone("a")
    direct.until_remote("b", "c")
    direct.until_phase("b", "c")
    history = direct.check()
    assert len(history.remotes_of(old)) == 1
    assert len(history.remotes_of(direct.uid("b"))) == 1
    assert len(history.remotes_of(direct.uid("c"))) == 2


def test_f28_i3_force_deleted_in_a_partition_the_remote_pod_goes_after_it(direct: World) -> None:
    direct.running("a", "b")
    uid = direct.uid("a")
    with direct.provider_away(direct.faults.link_cut(direct.node.name, "provider")):
        direct.delete("a", grace=0)
        assert direct.pod("a") is None
        assert direct.remote("a")
        healing = time.time()
    direct.until_gone("a")
    history = direct.check()
    (remote,) = history.remotes_of(uid)
    assert remote.ended > healing
    assert len(history.remotes_of(direct.uid("b"))) == 1
