from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reflection.forge import containers, fields, pod, volumes
from reflection.forge.document import document
from reflection.forge.fields import TABLE, Treatment, uncovered
from reflection.forge.walk import Translator

PAGE = Path(__file__).parents[4] / "docs" / "pod-fields.md"

TRANSLATORS: dict[str, dict[str, Translator]] = {
    "PodSpec": pod.SPEC_TRANSLATORS,
    "Container": containers.CONTAINER_TRANSLATORS,
    "EphemeralContainer": containers.CONTAINER_TRANSLATORS,
    "EnvVarSource": containers.ENV_TRANSLATORS,
    "EnvFromSource": containers.ENV_TRANSLATORS,
    "Volume": volumes.VOLUME_TRANSLATORS,
    "ProjectedVolumeSource": volumes.PROJECTED_TRANSLATORS,
    "VolumeProjection": volumes.PROJECTION_TRANSLATORS,
    "PodSecurityContext": {},
    "Affinity": pod.AFFINITY_TRANSLATORS,
}


def schema() -> dict[str, Any]:
    schemas: dict[str, Any] = {
        f"io.k8s.api.core.v1.{kind}": {"properties": {name: {} for name in rules}} for kind, rules in TABLE.items()
    }
    return {"components": {"schemas": schemas}}


def test_whole_schema_is_covered() -> None:
    assert uncovered(schema()) == set()


def test_new_field_and_missing_kind_are_told() -> None:
    document = schema()
    schemas = document["components"]["schemas"]
    schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["brandNew"] = {}
    del schemas["io.k8s.api.core.v1.Volume"]
    assert uncovered(document) == {"PodSpec.brandNew", "Volume"}
    assert uncovered({"definitions": schemas}) == {"PodSpec.brandNew", "Volume"}
    assert uncovered({}) == set(TABLE)


@pytest.mark.parametrize("kind", TABLE)
def test_every_translation_has_its_translator(kind: str) -> None:
    named = {rule.by for rule in TABLE[kind].values() if rule.treatment is Treatment.TRANSLATE}
    assert named <= set(TRANSLATORS[kind])


@pytest.mark.parametrize("kind", TABLE)
def test_what_is_not_copied_says_why(kind: str) -> None:
    for name, rule in TABLE[kind].items():
        assert rule.why or rule.treatment is Treatment.COPY, f"{kind}.{name}"


def test_no_unused_kind_of_treatment() -> None:
    used = {rule.treatment for rules in TABLE.values() for rule in rules.values()}
    assert used == set(fields.Treatment)


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text() == document(), "run: python -m reflection.forge.document > docs/pod-fields.md"
