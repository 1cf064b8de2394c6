"""The provider's object as a whole."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube.objects import Metadata
from kube.resources import SECRETS, SERVICES
from reflection import ownership
from reflection.forge import names
from reflection.kinds import body, marks, statusback
from reflection.kinds.document import Document, document_type
from reflection.kinds.model import Copy

ORIGIN = Metadata(
    name="x",
    namespace="web",
    uid="u1",
    labels={"app": "x", "app.kubernetes.io/managed-by": "Helm"},
    annotations={"note": "1", names.LAST_APPLIED: "{}", "meta.helm.sh/release-name": "r", marks.KEEP_NODE_PORT: "true"},
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


def want(parts: dict[str, Any] | None = None, origin: Metadata = ORIGIN) -> body.Wanted:
    return body.wanted(
        Copy(parts if parts is not None else {"spec": {"a": 1}}),
        resource=SERVICES,
        origin=origin,
        remote_namespace="web-c",
        consumer_id="c",
        filters=body.Filters(),
    )


def stored(made: dict[str, Any]) -> Metadata:
    return msgspec.convert({**made["metadata"], "uid": "r1", "resourceVersion": "7"}, Metadata)


def test_whose_it_is_and_what_travels() -> None:
    made = body.new(want())
    metadata = made["metadata"]
    assert metadata["labels"] == {"app": "x", names.MANAGED_BY_LABEL: "isthmus", names.CONSUMER_LABEL: "c"}
    assert metadata["annotations"].keys() == {
        "note",
        names.ORIGIN_NAMESPACE,
        names.ORIGIN_NAME,
        names.ORIGIN_UID,
        names.CARRIED,
        marks.MADE,
    }
    assert ownership.is_ours(stored(made), "c")
    assert body.is_made(stored(made))
    assert body.in_step(want(), made)


def test_a_put_keeps_what_others_added_and_drops_what_was_ours() -> None:
    current = stored(body.new(want()))
    labels, annotations = {**current.labels, "theirs": "1"}, {**current.annotations, "cloud": "2"}
    found = msgspec.structs.replace(current, labels=labels, annotations=annotations, finalizers=("f",))
    later = msgspec.structs.replace(ORIGIN, labels={"tier": "front"}, annotations={})
    metadata = body.changed(want(origin=later), found)["metadata"]
    assert (metadata["resourceVersion"], metadata["uid"], metadata["finalizers"]) == ("7", "r1", ("f",))
    assert "app" not in metadata["labels"]
    assert (metadata["labels"]["tier"], metadata["labels"]["theirs"]) == ("front", "1")
    assert "note" not in metadata["annotations"]
    assert metadata["annotations"]["cloud"] == "2"


@given(parts=st.dictionaries(st.sampled_from(["spec", "data"]), JSON, max_size=2), extra=JSON)
def test_what_was_written_is_in_step_whatever_is_added_to_it(parts: dict[str, Any], extra: Any) -> None:
    wanted = want(parts)
    made = body.new(wanted)
    assert body.in_step(wanted, made)
    assert body.in_step(wanted, {**made, "more": extra})
    other = want({**parts, "also": {"x": 1}})
    assert not body.in_step(other, made)


@pytest.mark.parametrize(
    ("current", "wanted", "holds"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": []}, True),
        ({"a": 1}, {"a": 1, "b": False}, True),
        ({"a": 1}, {"a": 2}, False),
        ([{"p": 1, "d": "TCP"}], [{"p": 1}], True),
        ([1, 2], [1], False),
        ({"a": {"k": "v"}}, {"a": {}}, False),
        ("5", 5, False),
        (True, 1, True),
    ],
)
def test_contains(current: Any, wanted: Any, holds: bool) -> None:
    assert body.contains(current, wanted) is holds


def test_exact_parts_hold_nothing_else() -> None:
    wanted = want({"data": {"a": "1"}})
    made = body.new(wanted)
    made["data"] = {"a": "1", "b": "2"}
    assert body.in_step(wanted, made)
    assert not body.in_step(wanted, made, exact={"data"})


@given(record=st.text(max_size=20) | JSON.map(lambda value: msgspec.json.encode(value).decode()))
def test_a_damaged_record_does_no_harm(record: str) -> None:
    found = Metadata(name="x", annotations={names.CARRIED: record}, labels={"k": "v"})
    assert body.changed(want(), found)["metadata"]["annotations"][names.CARRIED] == want().record
    assert body.released(found)["metadata"]["annotations"][marks.MADE] is None


def test_releasing_leaves_whose_copy_it_is() -> None:
    patch = body.released(stored(body.new(want())))["metadata"]
    assert patch["labels"] == {"app": None}
    assert patch["annotations"] == {"note": None, marks.MADE: None, names.CARRIED: None}


@given(current=st.dictionaries(st.text(max_size=2), JSON), wanted=st.dictionaries(st.text(max_size=2), JSON))
def test_merge_patch_turns_one_into_the_other(current: dict[str, Any], wanted: dict[str, Any]) -> None:
    clean: dict[str, Any] = _without_nulls(wanted)
    before: dict[str, Any] = _without_nulls(current)
    patch = statusback.merge_patch(before, clean)
    assert _applied(before, patch) == clean
    assert (patch == {}) is (before == clean)


def _applied(current: Any, patch: Any) -> Any:
    """RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    made = dict(current) if isinstance(current, dict) else {}
    for key, value in patch.items():
        if value is None:
            made.pop(key, None)
        else:
            made[key] = _applied(made.get(key), value)
    return made


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return value


def test_documents_keep_their_parts_raw_and_secrets_out_of_sight() -> None:
    kind = document_type(("data", "type"))
    text = b'{"kind":"Secret","metadata":{"name":"s"},"data":{"k":"aGlkZGVu"},"type":null,"x":1}'
    found = msgspec.json.decode(text, type=kind)
    assert isinstance(found, Document)
    assert "aGlkZGVu" not in repr(found)
    assert found.json() == {"metadata": {"name": "s"}, "data": {"k": "aGlkZGVu"}}
    assert document_type(("data", "type")) is kind
    assert SECRETS.kind == "Secret"
