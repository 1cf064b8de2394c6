"""Durations, selectors and conditions."""

import pytest

from api import meta
from api.meta import Condition, LabelSelector, SelectorRequirement


@pytest.mark.parametrize(("text", "value"), [("90s", 90), ("1h30m", 5400), ("1.5m", 90), ("250ms", 0.25)])
def test_durations(text: str, value: float) -> None:
    assert meta.seconds(text) == value


@pytest.mark.parametrize("text", ["", "5", "-5s", "5 m", "m5", "1d"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="write for example"):
        meta.seconds(text)


@pytest.mark.parametrize(
    ("operator", "values", "labels", "expected"),
    [
        ("In", ("a", "b"), {"k": "a"}, True),
        ("In", ("a", "b"), {}, False),
        ("NotIn", ("a",), {"k": "a"}, False),
        ("NotIn", ("a",), {}, True),
        ("Exists", (), {"k": ""}, True),
        ("Exists", (), {}, False),
        ("DoesNotExist", (), {"k": ""}, False),
        ("DoesNotExist", (), {}, True),
    ],
)
def test_selector_requirements(operator: str, values: tuple[str, ...], labels: dict[str, str], expected: bool) -> None:
    requirement = SelectorRequirement(key="k", operator=operator, values=values)  # type: ignore[arg-type] # a parameter
    assert LabelSelector(match_expressions=(requirement,)).matches(labels) is expected
    both = LabelSelector(match_labels={"x": "y"}, match_expressions=(requirement,))
    assert not both.matches(labels)
    assert both.matches({**labels, "x": "y"}) is expected


def test_an_empty_selector_selects_everything() -> None:
    assert LabelSelector().matches({})


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    foreign = Condition(type="Other", status="True", last_transition_time="t0")
    first = meta.with_condition([foreign], Condition(type="Ready", status="False", reason="A"), now="t1")
    second = meta.with_condition(first, Condition(type="Ready", status="False", reason="B"), now="t2")
    third = meta.with_condition(second, Condition(type="Ready", status="True", reason="C"), now="t3")
    assert [one.last_transition_time for one in (first[1], second[1], third[1])] == ["t1", "t1", "t3"]
    assert second[1].reason == "B"
    assert third[0] == foreign
