"""Pods of a virtual node stay when it is unready: only we tell whether they are to be replaced, and never Kubernetes.

Kubernetes' taint eviction (pkg/controller/tainteviction) deletes a pod when an unready or unreachable node's NoExecute
taint outlasts the pod's toleration, which the admission plugin DefaultTolerationSeconds sets to 300 s. That is made
for machines that died; a virtual node is unready when the way to its provider is cut, while the pods run on there.
The first toleration that matches a taint counts, so the plugin's are loosened in place. A pod that states another time
of its own keeps it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

Json = Mapping[str, Any]

TAINTS: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
DEFAULT_SECONDS: Final = 300
"""What API servers set unless told otherwise (--default-not-ready-toleration-seconds and its sibling)."""
_EFFECT: Final = "NoExecute"


def loosened(tolerations: Sequence[Json] | None) -> list[dict[str, Any]] | None:
    """The tolerations with which a pod outlasts any outage, or None if they need no change.

    Kept in order, none removed: that is what API servers allow of a pod that runs
    (`ValidatePodUpdate`: additions, and other tolerationSeconds).
    """
    made = [dict(one) for one in tolerations or ()]
    changed = False
    for taint in TAINTS:
        first = next((one for one in made if _tolerates(one, taint)), None)
        if first is None:
            made.append({"key": taint, "operator": "Exists", "effect": _EFFECT})
            changed = True
        elif _is_default(first, taint):
            del first["tolerationSeconds"]
            changed = True
    return made if changed else None


def _tolerates(toleration: Json, taint: str) -> bool:
    """`Toleration.ToleratesTaint` (k8s.io/api/core/v1) for these taints, which have no value."""
    key, operator = toleration.get("key") or "", toleration.get("operator") or "Equal"
    if (toleration.get("effect") or _EFFECT) != _EFFECT or (key or taint) != taint:
        return False
    return operator == "Exists" or (operator == "Equal" and bool(key) and not toleration.get("value"))


def _is_default(toleration: Json, taint: str) -> bool:
    plugin = {"key": taint, "operator": "Exists", "effect": _EFFECT, "tolerationSeconds": DEFAULT_SECONDS}
    return dict(toleration) == plugin
