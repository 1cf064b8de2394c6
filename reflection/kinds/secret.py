"""Secret: those that a label opts in, and those that a reflected Ingress names. What pods name goes with the pods.

Types by which a cluster mints or honours credentials never travel, in whatever way they are asked for (abuse test A24).
"""

from __future__ import annotations

from kube.resources import SECRETS
from reflection.copies import TOKEN_TYPES
from reflection.kinds.model import Context, Copy, Forged, Json, Kind, Refusal

_OPAQUE = "Opaque"


def forge(local: Json, _context: Context) -> Forged:
    """The provider's Secret."""
    kind = local.get("type") or _OPAQUE
    if kind in TOKEN_TYPES:
        return Refusal("TokenNotReflected", f"Secrets of type {kind} are credentials of a cluster and do not leave it")
    parts: Json = {"type": kind, "data": local.get("data") or {}}
    if local.get("immutable"):
        parts["immutable"] = True
    return Copy(parts)


def recreate(wanted: Json, current: Json) -> bool:
    """Whether the type differs, or the copy is immutable and what is wanted differs."""
    if wanted["type"] != (current.get("type") or _OPAQUE):
        return True
    if not current.get("immutable"):
        return False
    return (wanted["data"] or {}) != (current.get("data") or {}) or not wanted.get("immutable")


SECRET = Kind(
    resource=SECRETS,
    parts=("type", "data", "immutable"),
    forge=forge,
    opt_in=True,
    recreate=recreate,
    exact=frozenset({"data"}),
)
