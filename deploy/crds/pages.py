"""A page for each object: what it is for, a complete example, and its fields as a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deploy.lab.paths import ROOT
from kube import crd
from kube.crd import Definition

Json = dict[str, Any]
_OURS = ("apiVersion", "kind", "metadata")


def page(definition: Definition) -> str:
    """The page as Markdown."""
    resource = definition.resource
    example = ROOT / "deploy/examples/objects" / f"{resource.kind.lower()}.yaml"
    schema = crd.schema(definition.type)
    scope = "namespaced" if resource.namespaced else "cluster-scoped"
    lines = [
        f"# {resource.kind}",
        "",
        f"{schema['description']} {definition.notes}".strip(),
        "",
        f"`{resource.api_version}`, {scope}, `kubectl get {' or '.join((resource.plural, *definition.short_names))}`. "
        "This page is made from the types by `python -m deploy.crds`.",
        "",
        f"## Example (`{example.relative_to(ROOT)}`)",
        "```yaml",
        example.read_text().rstrip(),
        "```",
        "",
        "## Fields",
        "| field | type | default | meaning |",
        "|---|---|---|---|",
        *_rows(schema, ""),
    ]
    if rules := list(dict.fromkeys(_rules(schema))):
        lines += ["", "## What is refused", *(f"- {text}" for text in rules)]
    return "\n".join(lines) + "\n"


def _rows(schema: Json, where: str) -> Iterator[str]:
    for name, part in schema.get("properties", {}).items():
        if not where and name in _OURS:
            continue
        path = f"{where}.{name}" if where else name
        if where:
            needed = " (required)" if name in schema.get("required", ()) else ""
            default = f"`{part['default']}`" if "default" in part and part["default"] is not False else ""
            yield f"| `{path}` | {_kind(part)}{needed} | {default} | {part.get('description', '')} |"
        yield from _rows(part, path)
        yield from _rows(part.get("items", {}), f"{path}[]")
        extra = part.get("additionalProperties")
        if isinstance(extra, dict):
            yield from _rows(extra, f"{path}.*")


def _kind(part: Json) -> str:
    if "enum" in part:
        return " or ".join(f"`{value}`" for value in part["enum"])
    if "anyOf" in part:
        return "quantity"
    if part["type"] == "array":
        return f"list of {_kind(part['items'])}"
    if part["type"] == "object":
        extra = part.get("additionalProperties")
        return f"map to {_kind(extra)}" if isinstance(extra, dict) else "object"
    kind: str = part["type"]
    return kind


def _rules(schema: Json) -> Iterator[str]:
    for one in schema.get("x-kubernetes-validations", ()):
        yield one["message"]
    if "items" in schema:
        yield from _rules(schema["items"])
    for part in schema.get("properties", {}).values():
        yield from _rules(part)
