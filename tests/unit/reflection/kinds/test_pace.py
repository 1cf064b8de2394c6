"""How fast a namespace may write."""

from __future__ import annotations

from reflection.kinds.pace import Pace


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a29_a_namespace_that_floods_waits_and_its_neighbours_do_not() -> None:
    clock = Clock()
    pace = Pace(burst=3, per_second=10, clock=clock)
    assert [pace.wait("loud") for _ in range(3)] == [0, 0, 0]
    assert 0 < pace.wait("loud") <= 0.1
    assert pace.wait("quiet") == 0
    clock.now = 0.1
    assert pace.wait("loud") == 0
    assert pace.wait("loud") > 0


def test_rest_is_saved_up_to_the_burst_only() -> None:
    clock = Clock()
    pace = Pace(burst=2, per_second=10, clock=clock)
    clock.now = 1000.0
    assert [pace.wait("x") for _ in range(2)] == [0, 0]
    assert pace.wait("x") > 0
    pace.forget("x")
    assert pace.wait("x") == 0
