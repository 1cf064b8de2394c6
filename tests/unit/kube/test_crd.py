"""Structural schemas from types."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pytest
from msgspec import Meta, Raw

from kube import crd
from kube.objects import EMPTY, Metadata


class Part(msgspec.Struct, rename="camel"):
    """A part.

    More about it.
    """

    RULES: ClassVar[list[dict[str, Any]]] = [{"rule": "self.theName != ''", "message": "no"}]
    the_name: Annotated[str, Meta(description="TheName is a name.", pattern="^a", max_length=5)]
    kind: Literal["A", "B"] = "A"
    free: Raw = EMPTY
    flags: tuple[bool, ...] = ()
    amounts: dict[str, str | int] = {}
    count: Annotated[int, Meta(ge=1, le=9)] | None = None
    on: bool = False
    empty: str = ""


class Whole(msgspec.Struct):
    """A whole."""

    metadata: Metadata
    spec: Annotated[Part, Meta(extra_json_schema={"x-kubernetes-map-type": "atomic"})]


def test_types_become_a_structural_schema() -> None:
    spec = crd.schema(Whole)["properties"]["spec"]
    assert spec == {
        "type": "object",
        "description": "A part.",
        "x-kubernetes-map-type": "atomic",
        "x-kubernetes-validations": [{"rule": "self.theName != ''", "message": "no"}],
        "required": ["theName"],
        "properties": {
            "theName": {"type": "string", "description": "TheName is a name.", "pattern": "^a", "maxLength": 5},
            "kind": {"type": "string", "enum": ["A", "B"], "default": "A"},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "flags": {"type": "array", "items": {"type": "boolean"}},
            "amounts": {"type": "object", "additionalProperties": {"anyOf": [{"type": "integer"}, {"type": "string"}]}},
            "count": {"type": "integer", "format": "int64", "minimum": 1, "maximum": 9},
            "on": {"type": "boolean", "default": False},
            "empty": {"type": "string"},
        },
    }


def test_the_object_itself() -> None:
    made = crd.schema(Whole)
    assert made["required"] == ["spec"]
    assert made["properties"]["metadata"] == {"type": "object"}


class Odd(msgspec.Struct):
    """What no schema can say."""

    spec: list[str] | int


def test_what_cannot_be_said_is_named() -> None:
    with pytest.raises(crd.SchemaError, match=r"Odd\.spec"):
        crd.schema(Odd)
