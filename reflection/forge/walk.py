"""Following the table: one object of a known kind, field by field, and the state of one pod's forging."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reflection.forge import metadata, names
from reflection.forge.fields import Rules, Treatment
from reflection.forge.model import ForgeContext, Json, Note, Refused, TokenSpec


@dataclass(slots=True)
class Job:
    """What is collected while one pod is forged."""

    pod: Json
    context: ForgeContext
    labels: dict[str, str]
    """The user's labels that travel."""
    annotations: dict[str, str]
    """The user's annotations that travel."""
    mirrors: dict[str, str] = field(default_factory=dict)
    """Annotations that hold consumer values for the downward API."""
    removed_volumes: set[str] = field(default_factory=set)
    notes: list[Note] = field(default_factory=list)
    tokens: list[TokenSpec] = field(default_factory=list)

    @classmethod
    def of(cls, pod: Json, *, context: ForgeContext) -> Job:
        """Start on a pod."""
        meta = pod["metadata"]
        return cls(pod, context, metadata.carried_labels(meta), metadata.carried_annotations(meta))

    def differs(self, field_path: str) -> bool:
        """Say whether the remote pod would show another value for a metadata field than the consumer's pod."""
        if not field_path.startswith("metadata.") or field_path == "metadata.name":
            return False
        split = metadata.subscripted(field_path)
        if split is None:
            return True
        which, key = split
        if names.is_ours(key) or key == names.MANAGED_BY_LABEL:
            return True
        carried = self.labels if which == "labels" else self.annotations
        users: Mapping[str, str] = self.pod["metadata"].get(which) or {}
        return carried.get(key, "") != users.get(key, "")

    def field_value(self, field_path: str) -> str:
        """Give the consumer's value of a metadata field."""
        return metadata.field_value(self.pod["metadata"], field_path)

    def mirror(self, ref: Json) -> Json:
        """Translate an ObjectFieldSelector of a volume.

        Where the values differ, it points to an annotation that holds the consumer's, kept up to date by `changes`.
        """
        path = ref.get("fieldPath", "")
        if not self.differs(path):
            return ref
        key = names.mirror_annotation(path)
        self.mirrors[key] = self.field_value(path)
        return {"apiVersion": "v1", "fieldPath": f"metadata.annotations['{key}']"}


Translator = Callable[[Any, Job, str], Any]
"""(value, job, path of the field) -> value at the provider, or None to leave the field out. May raise Refused."""


def apply(obj: Json, rules: Rules, translators: Mapping[str, Translator], *, job: Job, path: str) -> dict[str, Any]:
    """Treat each field of an object as the table says. The input is not changed, but parts of it may be shared."""
    out: dict[str, Any] = {}
    for key, value in obj.items():
        rule = rules.get(key)
        if rule is None or rule.treatment is Treatment.COPY:
            out[key] = value
        elif rule.treatment is Treatment.TRANSLATE:
            translated = translators[rule.by](value, job, f"{path}.{key}")
            if translated is not None:
                out[key] = translated
        elif rule.treatment is Treatment.REFUSE and is_set(value):
            raise Refused(f"{path}.{key}", rule.why)
    return out


def is_set(value: object) -> bool:
    """Say whether a refused field asks for anything: false, 0, "" and empty lists are the same as leaving it out.

    An empty object is not: as a volume source it chooses the source.
    """
    return bool(value) or value == {}


def unreachable(value: Any, _job: Job, path: str) -> Any:
    """Stand in the place of a translator for what is treated before the table is asked."""
    raise AssertionError(f"{path}: {type(value).__name__}")
