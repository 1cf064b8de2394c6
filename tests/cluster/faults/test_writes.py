"""Faults of writes: answers lost, refused, throttled or spoiled, and a process killed in the middle."""

import pytest

from deploy.lab.proxy import rules
from tests.cluster.faults.world import World


def test_f4_i2_a_create_whose_answer_is_lost_makes_one_pod(spoiled: World) -> None:
    swallowed = spoiled.provider_proxy.add(rules.Swallow(), path="/pods$", verb="create", times=2)
    spoiled.running("a", "b", "c")
    assert swallowed.hits == 2
    history = spoiled.check()
    for name in ("a", "b", "c"):
        assert len(history.remotes_of(spoiled.uid(name))) == 1


@pytest.mark.parametrize("reached", [True, False], ids=["executed", "lost"])
def test_f18_i1_i2_killed_after_a_create_whose_answer_was_lost_it_adopts_the_pod(spoiled: World, reached: bool) -> None:
    spoiled.running("before")
    action = rules.Swallow() if reached else rules.Refuse()
    rule = spoiled.provider_proxy.add(action, path=f"{spoiled.remote_namespace}/pods$", verb="create")
    # From then on the process learns nothing more.
    spoiled.create("a")
    spoiled.until(lambda: rule.hits, what="the create")
    spoiled.node.unit.kill()
    if reached:
        spoiled.until_remote("a")
    assert (spoiled.remote("a") is not None) == reached
    spoiled.provider_proxy.clear()
    spoiled.node.unit.start()
    spoiled.until_phase("a", "before")
    history = spoiled.check()
    assert len(history.remotes_of(spoiled.uid("a"))) == 1
    assert len(history.remotes_of(spoiled.uid("before"))) == 1
