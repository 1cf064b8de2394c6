"""PodDisruptionBudget: what the consumer's budget still allows holds for drains at the provider too.

Shares and `maxUnavailable` can't be copied: the provider's disruption controller counts them from the pods' owners,
which are not there, and would allow nothing at all (pkg/controller/disruption getExpectedScale). So the copy says how
many of the pods *there* must stay: those that are healthy there, less the disruptions that the consumer's controller
allows over all pods, here and there. When one goes, both fall by one and the number stays; a failure elsewhere lowers
what is allowed there, and the number rises. While the consumer is away the last number holds.

The two do not fall at the same moment: the consumer learns of a pod that went a moment later. The number is therefore
lowered only when that has been wanted for a while; else of two drains at the provider both would pass where one may.
"""

from __future__ import annotations

from typing import Final

from kube.resources import Resource
from reflection.kinds.model import Context, Copy, Forged, Json, Kind

DISRUPTION_BUDGETS: Final = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")


def forge(local: Json, context: Context) -> Forged:
    """The provider's budget; None for one that selects nothing."""
    spec, status = local.get("spec") or {}, local.get("status") or {}
    selector = spec.get("selector")
    if selector is None:
        return None
    made: Json = {
        "selector": selector,
        "minAvailable": max(0, context.healthy_pods(selector) - _allowed(local["metadata"], status)),
    }
    if spec.get("unhealthyPodEvictionPolicy"):
        made["unhealthyPodEvictionPolicy"] = spec["unhealthyPodEvictionPolicy"]
    return Copy({"spec": made})


def is_weaker(wanted: Json, current: Json) -> bool:
    """Whether fewer pods would have to stay."""
    old = (current.get("spec") or {}).get("minAvailable")
    return isinstance(old, int) and bool(wanted["spec"]["minAvailable"] < old)


def _allowed(metadata: Json, status: Json) -> int:
    """Disruptions that the consumer allows now; none while its controller has not seen the budget as it is."""
    if status.get("observedGeneration", 0) < metadata.get("generation", 0):
        return 0
    return max(0, int(status.get("disruptionsAllowed") or 0))


POD_DISRUPTION_BUDGET = Kind(
    resource=DISRUPTION_BUDGETS,
    parts=("spec", "status"),
    forge=forge,
    exact=frozenset({"spec"}),
    lasting=is_weaker,
    counts_pods=True,
)
