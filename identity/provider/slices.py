"""Answers ResourceSlices: what a consumer asks for is granted, lessened, denied, or expires, each with its reason.

Who decides is said by the class: ourselves by what the nodes have left (`default`), or whoever writes
`status.decision`: the administrator (`manual`) or a controller of the provider's. Whatever they decide, a grant stays
below the Tenant's resources, ends with its time, and is held where ShadowPods become Pods (`admission`).

One slice is looked at a time, and what was written counts at once, whatever the cache shows: nothing is promised twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import structlog

from api.authentication.definitions import RESOURCE_SLICES
from api.authentication.resource_slice import DEFAULT_CLASS, GRANTED, MANUAL_CLASS, ResourceSlice, ResourceSliceStatus
from api.authentication.tenant import Tenant
from api.meta import Condition, condition, seconds, with_condition
from identity import names, requests
from identity.problems import RefusedError
from identity.provider import grants
from identity.provider.grants import Amounts, Inventory, Promise
from identity.provider.settings import ProviderSettings
from identity.writing import Own
from kube.client import Client
from kube.controller import Result
from kube.events import EventRecorder
from kube.objects import ObjectReference, revision
from kube.quantities import ZERO, QuantityError
from kube.store import Key, Store

log = structlog.get_logger(__name__)

AGAIN_SECONDS: Final = 15.0
"""How soon one is looked at again that did not get all: nodes and pods come and go."""
SOON_SECONDS: Final = 1.0
_LIMITS: Final = ("limits.", "requests.")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a slice comes to."""

    status: Any
    """Of the condition Granted: True, False, or Unknown while nobody has decided."""
    reason: str
    message: str
    amounts: Amounts = field(default_factory=dict)


class Slices:
    """Reconciles by key of the ResourceSlice, one after another. `wake` has a slice looked at again.

    `check_leading` raises if this process may not write (any more).
    """

    def __init__(
        self,
        client: Client,
        settings: ProviderSettings,
        *,
        slices: Store[ResourceSlice],
        tenants: Store[Tenant],
        inventory: Inventory,
        wake: Callable[[Key], None],
        recorder: EventRecorder,
        now: Callable[[], datetime],
        check_leading: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._slices = slices
        self._tenants = tenants
        self._inventory = inventory
        self._wake = wake
        self._recorder = recorder
        self._now = now
        self._check_leading = check_leading
        self._own = Own(client, RESOURCE_SLICES, decode=ResourceSlice, check_leading=check_leading)
        self._written: dict[Key, ResourceSlice] = {}

    async def reconcile(self, key: Key) -> Result | None:
        """Answer one slice. Errors are raised: the controller tries again."""
        self._check_leading()
        one = self._seen(key)
        if one is None or one.metadata.deletion_timestamp:
            self._wake_waiting()
            return None
        tenant = self._tenants.get(("", grants.consumer_of(one)))
        if tenant is None or names.tenant_namespace(tenant.consumer_id) != one.metadata.namespace:
            return None  # a consumer's own, or nobody's
        answer = self.answer(one, tenant)
        if answer.reason == "InventoryUnknown" and grants.granted(one, now=self._now()):
            return Result(requeue_after=SOON_SECONDS)
        await self._say(one, answer)
        return self._again(one, answer)

    # -- what is known

    def _seen(self, key: Key) -> ResourceSlice | None:
        """The slice as the cache has it, or as we wrote it where that is later."""
        cached, written = self._slices.get(key), self._written.get(key)
        if written is None:
            return cached
        if cached is None or cached.metadata.uid != written.metadata.uid or not _later(written, cached):
            del self._written[key]
            return cached
        return written

    def _all(self) -> Iterator[ResourceSlice]:
        for key in self._slices.keys():  # noqa: SIM118 - a store is no dict
            if (one := self._seen(key)) is not None:
                yield one

    def _others(self, one: ResourceSlice) -> list[tuple[ResourceSlice, Amounts]]:
        """All other slices that hold something now."""
        now = self._now()
        found = [(other, grants.granted(other, now=now)) for other in self._all() if not _same(other, one)]
        return [(other, held) for other, held in found if held and self._counts(other)]

    def _counts(self, one: ResourceSlice) -> bool:
        tenant = self._tenants.get(("", grants.consumer_of(one)))
        if tenant is None or tenant.spec.state == "Drained":
            return False
        return one.metadata.namespace == tenant.status.namespace

    # -- the decision

    def answer(self, one: ResourceSlice, tenant: Tenant) -> Answer:
        """What a slice comes to now, by all that is known."""
        try:
            asked = _asked(one)
            self._check(one, tenant)
            held = grants.granted(one, now=self._now())
            if not held and grants.is_over(one, now=self._now()) and not _renews(one):
                text = f"its time was over at {one.status.expires}; renewal Automatic prolongs it"
                return Answer("False", "Expired", text)
            if tenant.spec.state == "Cordoned":
                return _kept(asked, held)
            return self._decide(one, tenant, asked, held)
        except RefusedError as error:
            return Answer("False", error.reason, str(error))

    def _check(self, one: ResourceSlice, tenant: Tenant) -> None:
        """Raise `RefusedError` if the tenant may not have such a slice."""
        if tenant.spec.state == "Drained" or tenant.metadata.deletion_timestamp or not tenant.status.user:
            raise RefusedError("NotLetIn", f"consumer {tenant.consumer_id} is {tenant.spec.state} or being removed")
        if one.spec.class_ not in tenant.spec.classes:
            has = ", ".join(tenant.spec.classes) or "none"
            text = f"spec.class: consumer {tenant.consumer_id} may ask for these classes here: {has} (spec.classes)"
            raise RefusedError("ClassNotAllowed", text)
        if grants.selector(one, tenant) is None:
            text = f"spec.nodeSelector: the consumer's nodes here are those with {tenant.spec.node_selector}"
            raise RefusedError("SelectorNotAllowed", text)
        first = sorted(
            (other for other in self._all() if other.metadata.namespace == one.metadata.namespace),
            key=lambda it: (it.metadata.creation_timestamp, it.metadata.name),
        )[: self._settings.slice_limit]
        if not any(_same(one, other) for other in first):
            text = f"a consumer has at most {self._settings.slice_limit} slices here: remove others first"
            raise RefusedError("TooMany", text)

    def _decide(self, one: ResourceSlice, tenant: Tenant, asked: Amounts, held: Amounts) -> Answer:
        others = self._others(one)
        own = grants.total(found for other, found in others if other.metadata.namespace == one.metadata.namespace)
        bound = grants.within(asked, grants.ceiling(tenant, own, asked))
        if one.spec.class_ != DEFAULT_CLASS:
            return _judged(one, asked, bound)
        if held and not _news(one) and held == grants.within(held, bound) and not grants.short_of(asked, held):
            return _given(asked, held)
        chosen = grants.selector(one, tenant) or {}
        stock = self._inventory.stock(chosen)
        if stock is None:
            return Answer("Unknown", "InventoryUnknown", "the provider does not know yet what its nodes have left")
        if not stock.nodes:
            return Answer("False", "Insufficient", "no node of the provider that takes pods has these labels")
        promises = [self._promise(other, found) for other, found in others]
        left = grants.left(
            stock, promises, consumer_id=tenant.consumer_id, own=held, overcommit=self._settings.slice_overcommit
        )
        if held and not _news(one):  # what is granted is not taken back before its time
            left = {name: max(left.get(name, ZERO), amount) for name, amount in {**left, **held}.items()}
        return _given(asked, grants.within(bound, left))

    def _promise(self, one: ResourceSlice, held: Amounts) -> Promise:
        tenant = self._tenants.get(("", grants.consumer_of(one)))
        chosen = grants.selector(one, tenant) if tenant is not None else None
        return Promise(consumer_id=grants.consumer_of(one), amounts=held, nodes=self._inventory.nodes(chosen or {}))

    # -- what follows

    def _again(self, one: ResourceSlice, answer: Answer) -> Result | None:
        if answer.reason == "InventoryUnknown":
            return Result(requeue_after=SOON_SECONDS)
        wait = AGAIN_SECONDS if answer.reason in ("Reduced", "Insufficient", "NotLetIn", "TooMany") else None
        now = self._seen(one.metadata.key)
        if answer.status == "True" and now is not None and now.status.expires:
            ends = requests.parse_time(now.status.expires, field="status.expires") - self._now()
            left = max(ends.total_seconds(), 0) + 0.1
            wait = left if wait is None else min(wait, left)
        return Result(requeue_after=wait) if wait is not None else None

    def _wake_waiting(self) -> None:
        """Something became free."""
        for one in self._all():
            said = condition(one.status.conditions, GRANTED)
            if said is not None and said.reason in ("Reduced", "Insufficient", "TooMany"):
                self._wake(one.metadata.key)

    async def _say(self, one: ResourceSlice, answer: Answer) -> None:
        """Write the answer if it is a new one."""
        now, meta, status = self._now(), one.metadata, one.status
        made = Condition(
            type=GRANTED,
            status=answer.status,
            reason=answer.reason,
            message=answer.message[:2000],
            observed_generation=meta.generation,
        )
        expires = status.expires if one.spec.duration is not None else ""
        if answer.status == "True" and (_renews(one) or not grants.granted(one, now=now)):
            expires = requests.timestamp(now + _duration(one)) if one.spec.duration is not None else ""
        wanted = ResourceSliceStatus(
            observed_generation=meta.generation,
            conditions=with_condition(status.conditions, made, now=requests.timestamp(now)),
            decision=status.decision,
            granted=grants.texts(answer.amounts),
            expires=expires if answer.status == "True" or answer.reason == "Expired" else "",
            renewed=status.renewed if answer.status == "Unknown" else one.spec.renew_time or "",
        )
        if wanted == status:
            return
        self._tell(one, made, wanted)
        written = await self._own.say(one, msgspec.structs.replace(wanted, decision=None))
        if written is not None:
            self._written[meta.key] = written
        if answer.amounts != _held(status):
            self._wake_waiting()

    def _tell(self, one: ResourceSlice, made: Condition, wanted: ResourceSliceStatus) -> None:
        """The trail of who asked and what was granted: a log line and an event for each new answer."""
        meta, before = one.metadata, condition(one.status.conditions, GRANTED)
        if before is not None and (before.reason, one.status.granted) == (made.reason, wanted.granted):
            return
        log.info(
            "slice",
            tenant=grants.consumer_of(one),
            slice=meta.name,
            slice_class=one.spec.class_,
            asked=one.spec.resources,
            reason=made.reason,
            granted=wanted.granted,
            expires=wanted.expires,
        )
        ref = ObjectReference(
            kind=RESOURCE_SLICES.kind,
            api_version=RESOURCE_SLICES.api_version,
            namespace=meta.namespace,
            name=meta.name,
            uid=meta.uid,
        )
        kind = "Warning" if made.status == "False" else "Normal"
        self._recorder.event(ref, type=kind, reason=made.reason, message=made.message or made.reason)


def _asked(one: ResourceSlice) -> Amounts:
    try:
        asked = grants.amounts(one.spec.resources)
    except QuantityError as error:
        raise RefusedError("BadSlice", f"spec.resources: {error}") from error
    for name, amount in asked.items():
        if amount < ZERO:
            raise RefusedError("BadSlice", f"spec.resources[{name}]: nobody can have less than nothing")
        if name.startswith(_LIMITS):
            raise RefusedError("BadSlice", f"spec.resources[{name}]: name resources as pods request them, such as cpu")
    return asked


def _given(asked: Amounts, given: Amounts) -> Answer:
    """What is granted of a request: all, less, or nothing, if a node could not be made of it."""
    missing = grants.short_of(asked, given)
    if not missing:
        return Answer("True", "Granted", "all that is asked for is granted", given)
    if any(not given.get(name, ZERO).nanos for name in ("cpu", "memory", "pods")):
        return Answer("False", "Insufficient", f"the provider has not enough left for a node: {missing}")
    return Answer("True", "Reduced", f"granted is less than asked: {missing}", given)


def _judged(one: ResourceSlice, asked: Amounts, bound: Amounts) -> Answer:
    """What somebody's decision comes to, below the Tenant's ceiling."""
    decision = one.status.decision
    if decision is None:
        who = "the provider's administrator" if one.spec.class_ == MANUAL_CLASS else "the provider's controller"
        return Answer("Unknown", "AwaitingDecision", f"{who} decides about class {one.spec.class_} (status.decision)")
    if decision.verdict == "Denied":
        return Answer("False", "Denied", f"denied: {decision.message or 'no reason was given'}")
    try:
        limit = grants.amounts(decision.resources)
    except QuantityError as error:
        return Answer("Unknown", "AwaitingDecision", f"status.decision.resources: {error}")
    answer = _given(asked, grants.within(bound, limit))
    said = f" ({decision.message})" if decision.message else ""
    return Answer(answer.status, answer.reason, f"{answer.message}{said}", answer.amounts)


def _kept(asked: Amounts, held: Amounts) -> Answer:
    """What a cordoned tenant keeps: what it has, and nothing new."""
    if not held:
        return Answer("False", "Cordoned", "the provider grants this consumer nothing new")
    return _given(asked, grants.within(asked, held))


def _renews(one: ResourceSlice) -> bool:
    """Whether it is asked for anew."""
    return (one.spec.renew_time or "") != one.status.renewed


def _news(one: ResourceSlice) -> bool:
    """Whether something is asked that was not answered yet."""
    return one.metadata.generation != one.status.observed_generation


def _held(status: ResourceSliceStatus) -> Amounts:
    return grants.amounts(status.granted)


def _duration(one: ResourceSlice) -> timedelta:
    return timedelta(seconds=seconds(one.spec.duration or "0s"))


def _same(one: ResourceSlice, other: ResourceSlice) -> bool:
    return one.metadata.key == other.metadata.key


def _later(one: ResourceSlice, other: ResourceSlice) -> bool:
    mine, theirs = (revision(it.metadata.resource_version) for it in (one, other))
    return mine is not None and theirs is not None and mine > theirs
