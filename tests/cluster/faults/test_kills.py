"""Killed (-9) at every write that it makes: before the API server hears of it, and before it hears the answer.

Between two writes nothing of the process outlives it, so these are all the points at which a death can matter. The
proxies kill in the moment in which the request comes. `ISTHMUS_LONG_TESTS` has all points tried, else a few are.
"""

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from deploy.lab.proxy import rules
from tests.cluster.faults.world import MERGE, World

MANY = 50 if os.environ.get("ISTHMUS_LONG_TESTS") else 6
WRITES = {"create", "update", "patch", "delete"}


@dataclass(frozen=True)
class Point:
    """The write after `skip` others to one side, and whether it is carried out."""

    side: str
    skip: int
    reached: bool


def act(world: World, number: int) -> None:
    """What is done in each round: all that a virtual kubelet writes about, while two earlier pods are there."""
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c-{number}"}, "data": {"n": str(number)}}
    world.consumer.request("POST", f"/api/v1/namespaces/{world.namespace}/configmaps", body=config)
    container = {"name": "main", "image": "none:1", "envFrom": [{"configMapRef": {"name": f"c-{number}"}}]}
    world.create(f"a-{number}", f"b-{number}", containers=[container])
    label = {"metadata": {"labels": {"round": str(number)}}}
    world.consumer.request("PATCH", world.path(f"a-{number - 1}"), body=label, content_type=MERGE)
    world.delete(f"b-{number - 1}")
    world.delete(f"a-{number - 2}", grace=0)


def settle(world: World, number: int) -> None:
    """Until all of a round is done."""
    world.until_phase(f"a-{number}", f"b-{number}")
    world.until_gone(f"b-{number - 1}", f"a-{number - 2}")

    def labelled() -> bool:
        return bool((world.remote(f"a-{number - 1}") or {})["metadata"]["labels"].get("round") == str(number))

    world.until(labelled, what="the label")


def pattern(world: World, side: str) -> str:
    """Paths of the writes in question."""
    namespace = world.namespace if side == "consumer" else world.remote_namespace
    return f"/namespaces/{namespace}/(pods|shadowpods|configmaps|events)"


def points(world: World, marks: dict[str, int]) -> list[Point]:
    """All points of a round, by the writes of one that nothing disturbed."""
    found = []
    for side, proxy in world.proxies.items():
        seen = proxy.seen(path=pattern(world, side), since=marks[side])
        writes = [record for record in seen if record.request.verb in WRITES]
        found += [Point(side, skip, reached) for skip in range(len(writes)) for reached in (False, True)]
    return found


def chosen(found: Sequence[Point]) -> list[Point]:
    """As many as are to be tried, spread over all; some of them twice where there are fewer."""
    return [found[number * len(found) // MANY] for number in range(MANY)]


def struck(world: World, number: int, point: Point) -> bool:
    """One round with the process killed at a point and started again; whether it came to that."""
    pid = world.node.unit.pid
    assert pid is not None
    proxy = world.proxies[point.side]
    rule = proxy.add(
        rules.Swallow() if point.reached else rules.Refuse(),
        path=pattern(world, point.side),
        verb="|".join(sorted(WRITES)),
        times=1,
        skip=point.skip,
        on_hit=lambda: os.kill(pid, signal.SIGKILL),
    )
    act(world, number)
    world.until(lambda: not world.node.unit.alive or _is_done(world, number), what=f"{point}")
    proxy.remove(rule)
    if not rule.hits:
        return False
    world.until(lambda: not world.node.unit.alive, what="the process to be gone")
    world.node.unit.start()
    return True


@pytest.mark.timeout(900)
def test_f19_i1_i4_killed_at_any_write_it_goes_on_as_if_nothing_had_been(spoiled: World) -> None:
    spoiled.running("a--1", "b--1", "a--2")
    marks = {side: len(proxy.records) for side, proxy in spoiled.proxies.items()}
    act(spoiled, 0)
    settle(spoiled, 0)
    killed = 0
    for number, point in enumerate(chosen(points(spoiled, marks)), start=1):
        killed += struck(spoiled, number, point)
        settle(spoiled, number)
    spoiled.running("last")  # by the last of them, which may have found all done and be only starting
    assert killed > MANY // 2, "how many writes a round takes varies, but not so much"
    history = spoiled.check()
    for origin in history.origins():
        assert len(history.remotes_of(origin.uid)) == 1, f"{origin} was run again"


def _is_done(world: World, number: int) -> bool:
    """Whether a round went by without the write that was waited for."""
    done = world.pod(f"a-{number}"), world.pod(f"b-{number}")
    running = all(pod is not None and pod["status"].get("phase") == "Running" for pod in done)
    return running and not world.pod(f"b-{number - 1}") and not world.remote(f"a-{number - 2}")
