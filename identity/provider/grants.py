"""How much of what a slice asks for can be granted: by what its class, its Tenant and the nodes leave. Pure.

Pods run within grants, so what is promised and what is used are not added up: of each tenant with slices the larger of
both is taken off. What is promised to a slice counts on every selection of nodes that shares one with the slice's own:
too little may be granted by that, never too much.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from api.authentication.resource_slice import GRANTED, ResourceSlice
from api.authentication.tenant import Tenant
from api.meta import condition
from identity import names, requests
from kube.quantities import ZERO, Quantity

Amounts = dict[str, Quantity]

_BETTABLE: Final = ("cpu", "memory", "ephemeral-storage")
"""What may be promised more than once, for few use all that they ask for. Whole devices and pods may not."""
_REQUESTS: Final = "requests."


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """What a selection of nodes has."""

    nodes: frozenset[str] = frozenset()
    offered: Mapping[str, Quantity] = field(default_factory=dict)
    """What pods of tenants may have of them: all that is allocatable, less what pods of nobody's tenant hold."""
    used: Mapping[str, Mapping[str, Quantity]] = field(default_factory=dict)
    """What pods of tenants hold there, by consumer id."""


class Inventory(Protocol):
    """Knows the nodes of this cluster."""

    def stock(self, selector: Mapping[str, str]) -> Stock | None:
        """What the nodes with these labels have; None as long as they are not known: then nothing is granted."""

    def nodes(self, selector: Mapping[str, str]) -> frozenset[str]:
        """The nodes with these labels that take pods."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What was granted to a slice."""

    consumer_id: str
    amounts: Amounts
    nodes: frozenset[str]


def amounts(texts: Mapping[str, str | int]) -> Amounts:
    """Quantities by resource. Raises `kube.quantities.QuantityError`."""
    return {name: Quantity.parse(str(text)) for name, text in texts.items()}


def texts(found: Mapping[str, Quantity]) -> dict[str, str | int]:
    """Quantities as an object has them."""
    return {name: str(amount) for name, amount in sorted(found.items())}


def granted(one: ResourceSlice, *, now: datetime) -> Amounts:
    """What a slice grants now; nothing if it was not granted, or its time is over."""
    said = condition(one.status.conditions, GRANTED)
    if said is None or said.status != "True" or one.metadata.deletion_timestamp or is_over(one, now=now):
        return {}
    return amounts(one.status.granted)


def is_over(one: ResourceSlice, *, now: datetime) -> bool:
    """Whether a grant was given for a time that has passed."""
    return bool(one.status.expires) and now >= requests.parse_time(one.status.expires, field="status.expires")


def total(parts: Iterable[Mapping[str, Quantity]]) -> Amounts:
    """The sum."""
    found: Amounts = {}
    for part in parts:
        for name, amount in part.items():
            found[name] = found.get(name, ZERO) + amount
    return found


def within(asked: Mapping[str, Quantity], limit: Mapping[str, Quantity]) -> Amounts:
    """Of each resource that is asked for, at most what the limit names, in whole units but for cpu."""
    found = {name: min(amount, max(limit.get(name, ZERO), ZERO)) for name, amount in asked.items()}
    return {name: amount if name == "cpu" else amount.floor() for name, amount in found.items()}


def ceiling(tenant: Tenant, promised: Mapping[str, Quantity], asked: Mapping[str, Quantity]) -> Amounts:
    """What the Tenant's resources leave beside what is promised to its other slices; what is not named is free."""
    named: Amounts = {}
    for name, text in tenant.spec.resources.items():
        short, amount = name.removeprefix(_REQUESTS), Quantity.parse(str(text))
        named[short] = min(amount, named.get(short, amount))
    return {name: named[name] - promised.get(name, ZERO) if name in named else want for name, want in asked.items()}


def left(stock: Stock, promises: Iterable[Promise], *, consumer_id: str, own: Amounts, overcommit: Quantity) -> Amounts:
    """What nodes have left for a slice of a consumer that holds `own` already.

    `promises` are those of all other slices; `overcommit` multiplies what may be promised more than once.
    """
    by_consumer: dict[str, list[Amounts]] = {}
    for promise in promises:
        if promise.nodes & stock.nodes:
            by_consumer.setdefault(promise.consumer_id, []).append(promise.amounts)
    promised = {consumer: total(parts) for consumer, parts in by_consumer.items()}
    found = {name: _stretched(name, amount, overcommit) for name, amount in stock.offered.items()}
    for consumer in {*promised, *stock.used}:
        used = dict(stock.used.get(consumer, {}))
        if consumer == consumer_id:  # its pods run within this slice too
            used = {name: max(amount - own.get(name, ZERO), ZERO) for name, amount in used.items()}
        taken = promised.get(consumer, {})
        for name in found:
            found[name] -= max(taken.get(name, ZERO), used.get(name, ZERO))
    return found


def short_of(asked: Mapping[str, Quantity], given: Mapping[str, Quantity]) -> str:
    """What of a request was not given, for its owner; empty if all was."""
    missing = [name for name, amount in sorted(asked.items()) if given.get(name, ZERO) < amount]
    return ", ".join(f"{name}: {given.get(name, ZERO)} of {asked[name]}" for name in missing)


def selector(one: ResourceSlice, tenant: Tenant) -> dict[str, str] | None:
    """The labels of nodes that a slice may be of; None if it asks for others than the Tenant may have."""
    asked, bound = one.spec.node_selector, tenant.spec.node_selector
    if any(asked.get(key, value) != value for key, value in bound.items()):
        return None
    return {**asked, **bound}


def consumer_of(one: ResourceSlice) -> str:
    """The consumer in whose namespace a slice is."""
    return one.metadata.namespace.removeprefix(names.NAMESPACE_PREFIX)


def _stretched(name: str, amount: Quantity, overcommit: Quantity) -> Quantity:
    if name not in _BETTABLE:
        return amount
    return Quantity(amount.nanos * overcommit.nanos // Quantity.of(1).nanos, amount.notation)
