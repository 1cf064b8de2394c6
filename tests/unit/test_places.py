"""How tests are given out to processes: in wholes, long ones first, each process with its own sort to begin with."""

from __future__ import annotations

import pytest

from tests.conftest import chosen, place


@pytest.mark.parametrize(
    ("test", "whole"),
    [
        ("tests/cluster/test_node.py::test_a[b]", "tests/cluster/test_node.py"),
        ("tests/cluster/faults/test_a.py::test_b", "tests/cluster/faults"),
        ("tests/cluster/identity/test_life.py::test_b", "tests/cluster/identity/first"),
        ("tests/cluster/identity/test_rights.py::test_b", "tests/cluster/identity/second"),
        ("tests/lab/offload/test_pods.py::test_b", "tests/lab/offload/test_pods.py"),
        ("tests/lab/application/test_shop.py::test_b", "tests/lab/application"),
    ],
)
def test_what_shares_a_lab_stays_together(test: str, whole: str) -> None:
    assert place(test) == whole


def test_long_ones_go_first_and_nobody_is_idle_while_there_is_something() -> None:
    waiting = ["tests/cluster/test_a.py", "tests/cluster/faults", "tests/lab/test_a.py", "tests/lab/application"]
    given = []
    for last in (True, False, False, False):
        given.append(chosen(waiting, last=last))
        waiting.remove(given[-1])
    assert given == ["tests/cluster/faults", "tests/lab/application", "tests/lab/test_a.py", "tests/cluster/test_a.py"]
