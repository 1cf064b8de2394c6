"""What our own pods use of a provider namespace's quotas, counted as the quota controller counts. Pure.

Source of the rule: pkg/quota/v1/evaluator/core/pods.go.
"""

from __future__ import annotations

from collections.abc import Iterable

from kube.objects import Object
from kube.podresources import Amounts, pod_amounts
from kube.quantities import ZERO, Quantity
from reflection.decode import decode_pod, terminal


def of(pods: Iterable[Object]) -> Amounts:
    """Sum over pods that have not ended: `requests.<resource>`, `limits.<resource>` and `pods`."""
    total: Amounts = {"pods": ZERO}
    one = Quantity.parse("1")
    for envelope in pods:
        pod = decode_pod(envelope)
        if terminal(pod):
            continue
        total["pods"] = total["pods"] + one
        for kind in ("requests", "limits"):
            for name, amount in pod_amounts(pod["spec"], kind=kind).items():
                entry = f"{kind}.{name}"
                total[entry] = total.get(entry, ZERO) + amount
    return total
