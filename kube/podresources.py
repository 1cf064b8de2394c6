"""What a pod asks for as a whole, counted as scheduler and quota controller count. Pure.

Source of the rule: k8s.io/component-helpers/resource (PodRequests, PodLimits).
"""

from __future__ import annotations

from typing import Any

from kube.quantities import ZERO, Quantity

Amounts = dict[str, Quantity]


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
