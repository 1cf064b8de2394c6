"""What pods hold of a provider, and sums of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kube.podresources import Amounts, pod_amounts
from kube.quantities import ZERO

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What pods hold, counted as the scheduler and the quota controller count."""

    pods: int = 0
    requests: Amounts = field(default_factory=dict)
    """By resource, as `cpu` and `nvidia.com/gpu`. Where a container has a limit and no request, the limit counts."""
    limits: Amounts = field(default_factory=dict)


NOTHING: Final = Usage()


def usage(spec: Json) -> Usage:
    """What a pod with this spec holds. Raises `QuantityError`."""
    return Usage(
        pods=1, requests=pod_amounts(_defaulted(spec), kind="requests"), limits=pod_amounts(dict(spec), kind="limits")
    )


def _defaulted(spec: Json) -> dict[str, Any]:
    """With requests where only a limit is given, as API servers set them (pkg/apis/core/v1/defaults.go)."""
    made = dict(spec)
    for kind in ("initContainers", "containers"):
        if spec.get(kind):
            made[kind] = [_with_requests(container) for container in spec[kind]]
    return _with_requests(made)


def _with_requests(holder: Json) -> dict[str, Any]:
    resources = holder.get("resources") or {}
    if not resources.get("limits"):
        return dict(holder)
    requests = {**resources["limits"], **(resources.get("requests") or {})}
    return {**holder, "resources": {**resources, "requests": requests}}


def plus(one: Usage, other: Usage) -> Usage:
    """Both together."""
    return Usage(
        pods=one.pods + other.pods,
        requests=_sum(one.requests, other.requests),
        limits=_sum(one.limits, other.limits),
    )


def minus(one: Usage, other: Usage) -> Usage:
    """One without the other, which is part of it."""
    return Usage(
        pods=one.pods - other.pods,
        requests=_sum(one.requests, other.requests, sign=-1),
        limits=_sum(one.limits, other.limits, sign=-1),
    )


def _sum(one: Amounts, other: Amounts, *, sign: int = 1) -> Amounts:
    found = dict(one)
    for name, amount in other.items():
        known = found.get(name, ZERO)
        found[name] = known + amount if sign > 0 else known - amount
        if not found[name].nanos:
            del found[name]
    return found
