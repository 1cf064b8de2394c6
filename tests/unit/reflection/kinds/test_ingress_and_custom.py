"""Ingresses and custom resources."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflection.kinds import custom, ingress, table
from reflection.kinds.custom import Custom, CustomError
from reflection.kinds.model import Classes, Reference, Refusal
from tests.unit.reflection.kinds.contexts import Json, context, copy, document

CLASSES = Classes(ingress={"near": "far", "": "", "old": "new"})


@pytest.mark.parametrize(
    ("spec", "annotations", "made"),
    [
        ({"ingressClassName": "near"}, {}, "far"),
        ({}, {}, None),
        ({}, {ingress.CLASS_ANNOTATION: "old"}, "new"),
        ({"ingressClassName": "near"}, {ingress.CLASS_ANNOTATION: "old"}, "far"),
    ],
)
def test_classes_are_mapped(spec: Json, annotations: Json, made: str | None) -> None:
    local = document(spec={**spec, "rules": [{"host": "h"}]}, annotations={**annotations, "note": "1"})
    forged = copy(ingress.forge(local, context(classes=CLASSES)))
    assert forged.parts["spec"].get("ingressClassName") == made
    assert forged.parts["spec"]["rules"] == [{"host": "h"}]
    assert forged.annotations == {"note": "1"}


def test_unmapped_classes_stay_at_home() -> None:
    local = document(spec={"ingressClassName": "other"})
    assert isinstance(ingress.forge(local, context(classes=CLASSES)), Refusal)
    assert ingress.forge(local, context()) is None


def test_tls_secrets_come_along() -> None:
    local = document(spec={"tls": [{"hosts": ["a"]}, {"secretName": "cert"}]})
    assert list(ingress.references(local)) == [Reference("secrets", "cert")]


def test_custom_parts_travel_and_nothing_else() -> None:
    row = Custom.parse({"group": "example.org", "version": "v1", "plural": "widgets", "kind": "Widget", "parts": ["a"]})
    forged = copy(row.kind().forge(document(a=[1], spec={"b": 2}, status={"c": 3}), context()))
    assert forged.parts == {"a": [1]}
    assert row.kind().status_back is None


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"kind": "x"},
        {"group": "networking.isthmus.dev", "version": "v1", "plural": "x", "kind": "X"},
        {"group": "g.io", "version": "v1", "plural": "x", "kind": "X", "parts": ["status"]},
        {"group": "g.io", "version": "v1", "plural": "x", "kind": "X", "more": 1},
    ],
)
def test_custom_rows_that_cannot_be_used_are_refused(bad: Json) -> None:
    with pytest.raises(CustomError):
        Custom.parse(bad)


def generations(status: Any, *, theirs: int = 3, ours: int = 7) -> Json | None:
    remote, local = document(status=status), document()
    remote["metadata"]["generation"], local["metadata"]["generation"] = theirs, ours
    return custom.status_back(remote, local, context())


def test_generations_in_a_status_are_the_consumers() -> None:
    status = {"observedGeneration": 3, "conditions": [{"type": "A", "observedGeneration": 2}, {"type": "B"}]}
    assert generations(status) == {
        "observedGeneration": 7,
        "conditions": [{"type": "A", "observedGeneration": 6}, {"type": "B"}],
    }


@given(
    status=st.recursive(
        st.none() | st.text() | st.integers(),
        lambda c: st.lists(c) | st.dictionaries(st.sampled_from(["conditions", "observedGeneration", "x"]), c),
    )
)
def test_a_providers_status_is_not_trusted(status: Any) -> None:
    made = generations(status)
    assert made is None or isinstance(made, dict)


def test_status_without_escape_codes_and_of_bounded_size() -> None:
    assert generations({"message": "a\x1b[31m"}) == {"message": "a\\x1b[31m"}
    assert generations({"message": "x" * custom.STATUS_LIMIT}) is None


def test_the_table_has_each_kind_once() -> None:
    names = [kind.name for kind in table.KINDS]
    assert len(set(names)) == len(names)
    assert "ServiceAccount" not in {kind.name for kind in table.DEFAULT}
    assert [kind.name for kind in table.named(["secrets", "services"])] == ["Service", "Secret"]
    with pytest.raises(ValueError, match="no such kind"):
        table.named(["gadgets"])
