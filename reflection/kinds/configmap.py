"""ConfigMap: those that a label opts in. What pods name goes with the pods (`reflection.references`)."""

from __future__ import annotations

from kube.resources import CONFIG_MAPS
from reflection.forge import names
from reflection.kinds.model import Context, Copy, Forged, Json, Kind, Refusal


def forge(local: Json, _context: Context) -> Forged:
    """The provider's ConfigMap."""
    if local["metadata"]["name"] == names.ROOT_CA:
        return Refusal("RootCANotReflected", "the provider has a ConfigMap of this name of its own in every namespace")
    parts: Json = {"data": local.get("data") or {}, "binaryData": local.get("binaryData") or {}}
    if local.get("immutable"):
        parts["immutable"] = True
    return Copy(parts)


def recreate(wanted: Json, current: Json) -> bool:
    """Whether the copy is immutable and what is wanted differs."""
    if not current.get("immutable"):
        return False
    same = all((wanted.get(part) or {}) == (current.get(part) or {}) for part in ("data", "binaryData"))
    return not same or not wanted.get("immutable")


CONFIG_MAP = Kind(
    resource=CONFIG_MAPS,
    parts=("data", "binaryData", "immutable"),
    forge=forge,
    opt_in=True,
    recreate=recreate,
    exact=frozenset({"data", "binaryData"}),
)
