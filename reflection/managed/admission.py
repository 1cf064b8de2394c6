"""Keeping count of what each consumer's pods hold, and asking the tenants' keeper before one is made or grows.

What a consumer holds is the sum over the cached pods, kept as they change, and over what was admitted and the cache
does not show yet. An admitted pod counts until the cache shows it, or its end, or until it is known not to be made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from kube.objects import Metadata, Object
from kube.quantities import QuantityError
from kube.store import Change, Key, Store
from reflection.decode import TERMINAL_PHASES
from reflection.forge import names
from reflection.ledger import newer
from reflection.managed.refusals import Refusal
from reflection.managed.tenancy import Asked, Tenants
from reflection.managed.usage import NOTHING, Usage, minus, plus, usage

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Held:
    """One pod's part."""

    consumer_id: str
    uid: str
    """Of the pod; empty while our write has no answer."""
    version: str
    """Its resourceVersion after our write."""
    usage: Usage


class Admission:
    """The count of all consumers. `pods` are the cached pods that were made for ShadowPods."""

    def __init__(self, tenants: Tenants, *, pods: Store[Object]) -> None:
        self._tenants = tenants
        self._pods = pods
        self._cached: dict[Key, _Held] = {}
        self._totals: dict[str, Usage] = {}
        self._admitted: dict[str, dict[Key, _Held]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def pod_changed(self, change: Change[Object]) -> None:
        """Keep the count: to be called with each change of the cached pods."""
        before = self._cached.pop(change.key, None)
        after = _counted(change.new) if change.new is not None else None
        if before is not None:
            self._set(before.consumer_id, minus(self._totals.get(before.consumer_id, NOTHING), before.usage))
        if after is not None:
            self._cached[change.key] = after
            self._set(after.consumer_id, plus(self._totals.get(after.consumer_id, NOTHING), after.usage))

    def _set(self, consumer_id: str, total: Usage) -> None:
        if total == NOTHING:
            self._totals.pop(consumer_id, None)
        else:
            self._totals[consumer_id] = total

    def held(self, consumer_id: str, *, but: Key | None = None) -> Usage:
        """What a consumer's pods hold, without that of one key."""
        total = self._totals.get(consumer_id, NOTHING)
        admitted = self._admitted.get(consumer_id, {})
        for key in [key for key, one in admitted.items() if self._is_settled(key, one)]:
            del admitted[key]
        cached = self._cached.get(but) if but is not None else None
        if cached is not None and cached.consumer_id == consumer_id:
            total = minus(total, cached.usage)
        for key, one in admitted.items():
            if key != but:
                shown = self._cached.get(key)
                total = plus(minus(total, shown.usage) if shown is not None else total, one.usage)
        return total

    def _is_settled(self, key: Key, one: _Held) -> bool:
        """Whether the cache tells of this pod now: that it is there, or gone."""
        if not one.uid:
            return False
        cached, tombstone = self._pods.get(key), self._pods.tombstone(key)
        if cached is not None and cached.metadata.uid == one.uid:
            return not newer(one.version, cached.metadata.resource_version)
        return tombstone is not None and tombstone.uid == one.uid

    async def admit(self, key: Key, pod: Json, *, consumer_id: str, grows: bool = False) -> Refusal | None:
        """Ask for one pod; if it may be made it counts from now on. Calls for one consumer are serial."""
        try:
            wants = usage(pod["spec"])
        except QuantityError as error:
            return Refusal("Invalid", f"spec.containers: {error}")
        async with self._locks.setdefault(consumer_id, asyncio.Lock()):
            asked = Asked(
                consumer_id=consumer_id,
                namespace=key[0],
                name=key[1],
                pod=pod,
                wants=wants,
                held=self.held(consumer_id, but=key),
                grows=grows,
            )
            refusal = await self._tenants.admit(asked)
            if refusal is None:
                self._admitted.setdefault(consumer_id, {})[key] = _Held(consumer_id, "", "", wants)
        return refusal

    def made(self, key: Key, pod: Metadata) -> None:
        """The pod was made, or has grown: the cache will show it."""
        for admitted in self._admitted.values():
            if key in admitted:
                admitted[key] = replace(admitted[key], uid=pod.uid, version=pod.resource_version)

    def release(self, key: Key) -> None:
        """The pod was not made, did not grow, or is no more."""
        for admitted in self._admitted.values():
            admitted.pop(key, None)


def _counted(pod: Object) -> _Held | None:
    """A pod's part; None of one that ran to its end."""
    status = msgspec.json.decode(pod.status) if pod.status else {}
    consumer_id = pod.metadata.labels.get(names.CONSUMER_LABEL, "")
    if not consumer_id or (isinstance(status, dict) and status.get("phase") in TERMINAL_PHASES):
        return None
    return _Held(consumer_id, pod.metadata.uid, pod.metadata.resource_version, usage(msgspec.json.decode(pod.spec)))
