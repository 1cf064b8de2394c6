"""The CRDs are what the types say, and say enough."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from api.definitions import DEFINITIONS
from deploy.crds.__main__ import files
from kube import crd
from kube.crd import Definition

Json = dict[str, Any]


def fields(schema: Json, where: str) -> Iterator[tuple[str, Json]]:
    for name, part in schema.get("properties", {}).items():
        yield f"{where}.{name}", part
        yield from fields(part, f"{where}.{name}")
        yield from fields(part.get("items", {}), f"{where}.{name}[]")
        extra = part.get("additionalProperties")
        if isinstance(extra, dict):
            yield from fields(extra, f"{where}.{name}.*")


def test_files_are_up_to_date() -> None:
    stale = [file.name for file, text in files() if not file.exists() or file.read_text() != text]
    assert not stale, f"run {sys.executable} -m deploy.crds"


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda definition: definition.resource.kind)
def test_every_field_is_described_by_a_sentence_that_begins_with_its_name(definition: Definition) -> None:
    schema = crd.schema(definition.type)
    for where, part in fields(schema, definition.resource.kind):
        name = where.rpartition(".")[2]
        if where.count(".") == 1 and name in ("apiVersion", "kind", "metadata", "spec", "status"):
            continue
        text = part.get("description", "")
        assert text.lower().startswith(f"{name.lower()} "), f"{where}: {text!r}"
        assert text.endswith("."), f"{where}: {text!r}"
        assert len(text.split()) >= 4, f"{where}: {text!r}"


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda definition: definition.resource.kind)
def test_a_definition_has_what_kubectl_users_expect(definition: Definition) -> None:
    made = crd.manifest(definition)["spec"]
    (version,) = made["versions"]
    assert made["names"]["shortNames"]
    assert made["names"]["categories"] == ["isthmus"]
    assert version["subresources"] == {"status": {}}
    conditions = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert version["additionalPrinterColumns"][-1]["name"] == "Age"
