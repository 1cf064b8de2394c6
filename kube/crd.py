"""CustomResourceDefinitions from msgspec types: a structural schema, so that the API server checks what users write.

A field's ``Meta(description=...)`` becomes what ``kubectl explain`` shows, ``Literal`` an enum, patterns and bounds
themselves. ``Meta(extra_json_schema=...)`` adds keywords such as ``x-kubernetes-list-type``. A type's ``RULES`` class
variable holds its CEL validations. Defaults that are plain values become the server's defaults, so that what
`kubectl get` shows is what counts.

Rules of structural schemas: apiextensions.k8s.io/v1 JSONSchemaProps, KEP-1152.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from msgspec import inspect

from kube.resources import Resource

Schema = dict[str, Any]
_TOP = ("metadata",)
_BOUNDS = {
    "min_length": "minLength",
    "max_length": "maxLength",
    "pattern": "pattern",
    "ge": "minimum",
    "le": "maximum",
}
_ITEMS = {"min_length": "minItems", "max_length": "maxItems"}


class SchemaError(TypeError):
    """A type cannot be said in a structural schema; the text names the type and the field."""


@dataclass(frozen=True, slots=True)
class Column:
    """A printer column; a `priority` above 0 shows with ``-o wide`` only."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0
    description: str = ""

    def as_json(self) -> Schema:
        """As a CRD has it."""
        made: Schema = {"name": self.name, "type": self.type, "jsonPath": self.path}
        if self.description:
            made["description"] = self.description
        return {**made, "priority": self.priority} if self.priority else made


@dataclass(frozen=True, slots=True)
class Definition:
    """What of a CustomResourceDefinition the object's type does not say."""

    resource: Resource
    type: type[msgspec.Struct]
    short_names: Sequence[str] = ()
    categories: Sequence[str] = ()
    columns: Sequence[Column] = ()
    notes: str = ""
    """More about the kind, for its page in the documentation."""


def manifest(definition: Definition) -> Schema:
    """The CustomResourceDefinition. Raises `SchemaError`."""
    resource = definition.resource
    version = {
        "name": resource.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema(definition.type)},
        "subresources": {"status": {}},
        "additionalPrinterColumns": [column.as_json() for column in definition.columns],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{resource.group}"},
        "spec": {
            "group": resource.group,
            "names": {
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "singular": resource.kind.lower(),
                "shortNames": list(definition.short_names),
                "categories": list(definition.categories),
            },
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "versions": [version],
        },
    }


def schema(kind: type[msgspec.Struct]) -> Schema:
    """The schema of a whole object. Raises `SchemaError`."""
    info = cast("inspect.StructType", inspect.type_info(kind))
    made = _struct(info, where=kind.__name__, skip=_TOP)
    made["properties"] = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        **made["properties"],
    }
    return made


def _struct(info: inspect.StructType, *, where: str, skip: Sequence[str] = ()) -> Schema:
    made: Schema = {"type": "object", "description": _summary(info.cls)}
    made["properties"] = {
        field.encode_name: _field(field, where=f"{where}.{field.encode_name}")
        for field in info.fields
        if field.encode_name not in skip
    }
    if required := [f.encode_name for f in info.fields if f.required and f.encode_name not in skip]:
        made["required"] = required
    if rules := getattr(info.cls, "RULES", ()):
        made["x-kubernetes-validations"] = list(rules)
    return made


def _summary(kind: type) -> str:
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())


def _field(field: inspect.Field, *, where: str) -> Schema:
    made = _type(field.type, where=where)
    default = field.default
    if isinstance(default, bool) or (isinstance(default, str | int) and default):
        made["default"] = default
    elif isinstance(default, msgspec.Struct) and field.encode_name == "spec":
        made["default"] = {}  # so that the defaults inside show where the user wrote no spec
    return made


def _type(info: inspect.Type, *, where: str) -> Schema:
    """The schema of one value. Annotations around a type come as nested `inspect.Metadata`."""
    if isinstance(info, inspect.Metadata):
        inner = _type(info.type, where=where)
        return {**inner, **_described(info)}
    if isinstance(info, inspect.UnionType):
        return _union(info, where=where)
    if isinstance(info, inspect.StructType):
        return _struct(info, where=where)
    if isinstance(info, inspect.DictType):
        return {"type": "object", "additionalProperties": _type(info.value_type, where=f"{where}.*")}
    if isinstance(info, inspect.VarTupleType | inspect.ListType):
        return {"type": "array", "items": _type(info.item_type, where=f"{where}[]"), **_bounds(info, _ITEMS)}
    return _scalar(info, where=where)


def _described(info: inspect.Metadata) -> Schema:
    extra = dict(info.extra_json_schema or {})
    text = extra.pop("description", None)
    return {**({"description": text} if text else {}), **extra}


def _union(info: inspect.UnionType, *, where: str) -> Schema:
    members = [member for member in info.types if not isinstance(member, inspect.NoneType)]
    if len(members) == 1:
        return _type(members[0], where=where)
    if {type(member) for member in members} == {inspect.StrType, inspect.IntType}:
        return {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    raise SchemaError(f"{where}: a union has no structural schema; use one type, or int | str for a quantity")


def _scalar(info: inspect.Type, *, where: str) -> Schema:
    if isinstance(info, inspect.StrType):
        return {"type": "string", **_bounds(info, _BOUNDS)}
    if isinstance(info, inspect.IntType):
        return {"type": "integer", "format": "int64", **_bounds(info, _BOUNDS)}
    if isinstance(info, inspect.BoolType):
        return {"type": "boolean"}
    if isinstance(info, inspect.LiteralType):
        return {"type": "string", "enum": list(info.values)}
    if isinstance(info, inspect.RawType):
        return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    raise SchemaError(f"{where}: {type(info).__name__} has no structural schema")


def _bounds(info: inspect.Type, words: dict[str, str]) -> Schema:
    values = {word: getattr(info, name, None) for name, word in words.items()}
    return {word: value for word, value in values.items() if value is not None}
