"""What our own pods use of a provider namespace's quotas, counted as the quota controller counts. Pure.

Source of the rule: k8s.io/component-helpers/resource (PodRequests, PodLimits) and pkg/quota/v1/evaluator/core/pods.go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kube.objects import Object
from reflection.decode import decode_pod, terminal
from vk.node.quantities import ZERO, Quantity

Amounts = dict[str, Quantity]


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


def pod_amounts(spec: dict[str, Any], *, kind: str) -> Amounts:
    """Requests or limits of a whole pod: all containers and sidecars together, or the greediest init container."""
    together: Amounts = {}
    for container in spec.get("containers") or ():
        _add(together, _amounts(container, kind))
    greatest: Amounts = {}
    sidecars: Amounts = {}
    for container in spec.get("initContainers") or ():
        amounts = _amounts(container, kind)
        if container.get("restartPolicy") == "Always":
            _add(together, amounts)
            _add(sidecars, amounts)
            amounts = {}
        beside = dict(sidecars)
        _add(beside, amounts)
        _most(greatest, beside)
    _most(together, greatest)
    _add(together, {name: Quantity.parse(str(text)) for name, text in (spec.get("overhead") or {}).items()})
    together.update(_amounts(spec, kind))  # resources of the pod as a whole go before those of its containers
    return together


def _amounts(holder: dict[str, Any], kind: str) -> Amounts:
    found = (holder.get("resources") or {}).get(kind) or {}
    return {name: Quantity.parse(str(text)) for name, text in found.items()}


def _add(into: Amounts, amounts: Amounts) -> None:
    for name, amount in amounts.items():
        into[name] = into.get(name, ZERO) + amount


def _most(into: Amounts, amounts: Amounts) -> None:
    for name, amount in amounts.items():
        into[name] = max(into.get(name, ZERO), amount)
