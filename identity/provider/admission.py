"""What a tenant's pods may have, from its Tenant as the cache shows it: who it is, its limits, and its quota. Pure.

`held` and `wants` are counted by whoever makes the pods, serially for each tenant; so what is decided here is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from api.authentication.resource_slice import ResourceSlice
from api.authentication.tenant import Tenant
from identity import names
from identity.provider import grants
from kube.quantities import ZERO, Quantity
from kube.store import Store

Amounts = Mapping[str, Quantity]
_REQUESTS: Final = "requests."
_LIMITS: Final = "limits."


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What pods come to, counted as the scheduler counts."""

    pods: int
    requests: Amounts
    limits: Amounts


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a pod may not be made: one word in CamelCase, and in full for its owner."""

    reason: str
    message: str


class Tenancy:
    """Answers from the caches of Tenants and of their ResourceSlices, which have the index `namespace`."""

    def __init__(self, tenants: Store[Tenant], slices: Store[ResourceSlice], *, now: Callable[[], datetime]) -> None:
        self._tenants = tenants
        self._slices = slices
        self._now = now

    def tenant(self, consumer_id: str) -> Tenant | None:
        """The Tenant of a consumer."""
        return self._tenants.get(("", consumer_id))

    def subject(self, consumer_id: str) -> Mapping[str, str] | None:
        """Who the consumer is, as the subject of a RoleBinding; None if it has no rights now."""
        tenant = self.tenant(consumer_id)
        if tenant is None or tenant.metadata.deletion_timestamp or tenant.spec.state == "Drained":
            return None
        return names.subject(tenant.status.user) if tenant.status.user else None

    def deny(self, consumer_id: str, *, wants: Load, held: Load, grows: bool = False) -> Denial | None:
        """Why a pod may not be made or grow; None if it may."""
        tenant = self.tenant(consumer_id)
        if tenant is None or self.subject(consumer_id) is None:
            return Denial("NotLetIn", f"consumer {consumer_id} is not let in at the provider")
        if tenant.spec.state == "Cordoned" and not grows:
            return Denial("Cordoned", f"the provider cordoned consumer {consumer_id}: it makes no new pods")
        denial = over(tenant.spec.resources, wants=wants, held=held)
        if denial is None and tenant.spec.classes:
            denial = outside(self.granted(consumer_id), wants=wants, held=held)
        return denial

    def granted(self, consumer_id: str) -> grants.Amounts:
        """What the consumer's slices come to now."""
        now, namespace = self._now(), names.tenant_namespace(consumer_id)
        return grants.total(grants.granted(one, now=now) for one in self._slices.by_index("namespace", namespace))


def over(granted: Mapping[str, str | int], *, wants: Load, held: Load) -> Denial | None:
    """What of the granted amounts a pod would exceed; None if nothing.

    A name is a resource that is requested (`cpu`, `requests.cpu`, `nvidia.com/gpu`), one after `limits.`, or `pods`.
    Where limits are counted a pod must have one, as under a ResourceQuota; what has no request counts nothing.
    """
    for name, text in sorted(granted.items()):
        hard = Quantity.parse(str(text))
        want, have = _amount(name, wants), _amount(name, held)
        if name.startswith(_LIMITS) and not want.nanos:
            return Denial("QuotaExceeded", f"the provider counts {name}: each pod must have a limit of it")
        if want.nanos and hard < have + want:
            said = f"{name}: the pod wants {want}, {have} of {hard} are in use by the consumer's pods"
            return Denial("QuotaExceeded", said)
    return None


def outside(granted: Amounts, *, wants: Load, held: Load) -> Denial | None:
    """What a pod would have that no slice grants; None if nothing. A resource that is not named is not granted."""
    for name, want in sorted({**wants.requests, "pods": Quantity.of(wants.pods)}.items()):
        hard, have = granted.get(name, ZERO), _amount(name, held)
        if want.nanos and hard < have + want:
            said = f"{name}: the pod wants {want}, {have} of the {hard} that the consumer's slices grant are in use"
            return Denial("QuotaExceeded", said)
    return None


def _amount(name: str, load: Load) -> Quantity:
    if name == "pods":
        return Quantity.of(load.pods)
    if name.startswith(_LIMITS):
        return load.limits.get(name.removeprefix(_LIMITS), ZERO)
    return load.requests.get(name.removeprefix(_REQUESTS), ZERO)
