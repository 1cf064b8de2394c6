"""Custom resources: any namespaced kind that the configuration lists, whose definition is in both clusters.

Its parts travel as they are (what they name must be reflected or exist at the provider by itself). With the switch
`status_back` the status that the provider's controller writes becomes the consumer's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from kube.resources import Resource
from reflection.forge import sanitise
from reflection.kinds.model import Context, Copy, Forged, Json, Kind

STATUS_LIMIT: Final = 256 * 1024
"""Bytes of a status that is taken over; a larger one is left alone."""
_TEXT_LIMIT: Final = 32 * 1024


class CustomError(ValueError):
    """A custom kind can't be used as it is configured; the text says why."""


@dataclass(frozen=True, slots=True)
class Custom:
    """One row of the configuration."""

    resource: Resource
    status_back: bool = False
    parts: tuple[str, ...] = ("spec",)
    """Top-level fields that travel."""
    opt_in: bool = False

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Custom:
        """Read `{group, version, plural, kind, statusBack, parts, optIn}`. Raises `CustomError`."""
        unknown = set(given) - {"group", "version", "plural", "kind", "statusBack", "parts", "optIn"}
        if unknown:
            raise CustomError(f"custom resource: unknown setting {sorted(unknown)[0]!r}")
        names = [given.get(key) for key in ("group", "version", "plural", "kind")]
        if not all(isinstance(name, str) and name for name in names):
            raise CustomError("custom resource: group, version, plural and kind are needed")
        group, version, plural, kind = (str(name) for name in names)
        if group.endswith("isthmus.dev"):
            raise CustomError(f"custom resource: {plural}.{group} are isthmus' own")
        parts = tuple(given.get("parts") or ("spec",))
        if not parts or {"metadata", "status", "kind", "apiVersion"} & set(parts):
            raise CustomError("custom resource: parts are top-level fields besides metadata and status")
        return cls(
            Resource(group, version, plural, kind),
            status_back=bool(given.get("statusBack")),
            parts=parts,
            opt_in=bool(given.get("optIn")),
        )

    def kind(self) -> Kind:
        """The row of the table."""
        parts = self.parts

        def forge(local: Json, _context: Context) -> Forged:
            return Copy({part: local[part] for part in parts if part in local})

        return Kind(
            resource=self.resource,
            parts=parts,
            forge=forge,
            status_back=status_back if self.status_back else None,
            opt_in=self.opt_in,
            exact=frozenset({"status"}),
        )


def status_back(remote: Json, local: Json, _context: Context) -> Json | None:
    """The provider's status, with the generations of the consumer's object."""
    status = remote.get("status")
    if not isinstance(status, dict) or len(msgspec.json.encode(status)) > STATUS_LIMIT:
        return None
    theirs, ours = remote["metadata"].get("generation", 0), local["metadata"].get("generation", 0)
    made: Json = _clean(status)
    conditions = made.get("conditions")
    for holder in (made, *(conditions if isinstance(conditions, list) else ())):
        if isinstance(holder, dict) and isinstance(holder.get("observedGeneration"), int):
            seen = holder["observedGeneration"] >= theirs
            holder["observedGeneration"] = ours if seen else max(0, ours - 1)
    return made


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _clean(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_clean(inner) for inner in value]
    return sanitise.text(value, limit=_TEXT_LIMIT) if isinstance(value, str) else value
