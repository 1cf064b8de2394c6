"""docs/adding-a-reflector.md says what is there."""

from __future__ import annotations

from deploy.lab.paths import ROOT
from reflection.kinds import configmap, marks, table

TEXT = (ROOT / "docs" / "adding-a-reflector.md").read_text()


def test_the_example_is_a_kind_as_it_is() -> None:
    assert (ROOT / "reflection" / "kinds" / "configmap.py").read_text() in TEXT
    assert configmap.CONFIG_MAP in table.KINDS


def test_each_kind_has_its_row() -> None:
    missing = [kind.resource_name for kind in table.KINDS if f"| `{kind.resource_name}` |" not in TEXT]
    assert missing == []


def test_each_mark_of_users_is_told() -> None:
    assert all(mark in TEXT for mark in (marks.REFLECT, marks.KEEP_NODE_PORT, marks.STATUS_FROM))
