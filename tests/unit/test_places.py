"""How tests are given out to processes: in wholes, long ones first."""

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


def test_long_ones_go_first_and_the_rest_as_collected() -> None:
    waiting = ["tests/lab/test_b.py", "tests/lab/test_a.py", "tests/lab/test_managed.py", "tests/lab/application"]
    given = []
    while waiting:
        given.append(chosen(waiting))
        waiting.remove(given[-1])
    assert given == [
        "tests/lab/application",
        "tests/lab/test_managed.py",
        "tests/lab/test_b.py",
        "tests/lab/test_a.py",
    ]
