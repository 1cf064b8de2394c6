"""Which objects and which namespaces."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube.objects import Metadata
from reflection.kinds import marks
from reflection.kinds.offloaded import NamespaceTable, Offloaded
from reflection.kinds.selection import LabelSelector, Rule, RuleError, parse_rules, selected

WEB = Metadata(name="web-1", labels={"tier": "front", "app": "web"})


@pytest.mark.parametrize(
    ("rule", "permitted"),
    [
        ({}, True),
        ({"enabled": False}, False),
        ({"enabled": None}, True),
        ({"allow": ["web-*"]}, True),
        ({"allow": ["db"]}, False),
        ({"deny": ["*-1"]}, False),
        ({"allow": ["web-1"], "deny": ["web-1"]}, False),
        ({"labelSelector": {"matchLabels": {"tier": "front"}}}, True),
        ({"labelSelector": {"matchLabels": {"tier": "back"}}}, False),
        ({"labelSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}}, True),
        ({"labelSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}}, False),
        ({"labelSelector": {"matchExpressions": [{"key": "none", "operator": "NotIn", "values": ["web"]}]}}, True),
        ({"labelSelector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}}, False),
        ({"labelSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}, True),
    ],
)
def test_rules(rule: dict[str, Any], permitted: bool) -> None:
    assert Rule.parse(rule).permits(WEB) is permitted


@pytest.mark.parametrize("bad", [{"enable": True}, {"labelSelector": {"matchExpressions": [{"operator": "Gt"}]}}])
def test_rules_that_cannot_be_used_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(RuleError):
        parse_rules({"Service": bad})


@given(verdicts=st.lists(st.booleans(), max_size=4))
def test_each_level_can_veto(verdicts: list[bool]) -> None:
    levels = [{"services": Rule(enabled=verdict)} for verdict in verdicts]
    assert selected("services", WEB, levels, opt_in=False) is all(verdicts)
    assert selected("ingresses.networking.k8s.io", WEB, levels, opt_in=False)


@pytest.mark.parametrize(
    ("labels", "annotations", "opt_in", "wanted"),
    [
        ({}, {}, False, True),
        ({}, {}, True, False),
        ({marks.REFLECT: "true"}, {}, True, True),
        ({}, {marks.REFLECT: "true"}, True, False),
        ({marks.REFLECT: "false"}, {}, False, False),
        ({}, {marks.REFLECT: "false"}, False, False),
    ],
)
def test_marks(labels: dict[str, str], annotations: dict[str, str], opt_in: bool, wanted: bool) -> None:
    metadata = Metadata(name="x", labels=labels, annotations=annotations)
    assert selected("secrets", metadata, (), opt_in=opt_in) is wanted


def test_the_empty_selector_selects_everything() -> None:
    assert LabelSelector.parse(None).matches({})


def test_the_namespace_table_tells_differences() -> None:
    told: list[tuple[Offloaded | None, Offloaded | None]] = []
    table = NamespaceTable(changed=lambda old, new: told.append((old, new)))
    first, second = Offloaded("a", "a-c"), Offloaded("b", "b-c")
    table.replace([first, second])
    assert sorted(told, key=str) == sorted([(None, first), (None, second)], key=str)
    told.clear()
    leaving = Offloaded("a", "a-c", leaving=True)
    moved = Offloaded("a", "other")
    table.replace([leaving, moved])
    assert set(told) == {(first, leaving), (None, moved), (second, None)}
    assert table.names() == {"a": "other"}
    assert len(table.of("a")) == 2
    with pytest.raises(ValueError, match="two consumer namespaces"):
        table.replace([Offloaded("a", "x"), Offloaded("b", "x")])
    assert table.get("other") == moved
