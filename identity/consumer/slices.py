"""Keeps a copy of each ResourceSlice at its provider, brings back what became of it, and makes its VirtualNode.

The provider cannot reach our API server, so we write there and look there, with the credential of the slice's Identity.
What it answers is taken for what it is worth: never more than we asked for, and nothing once its time is over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import structlog

from api.authentication.common import GROUP
from api.authentication.definitions import RESOURCE_SLICES
from api.authentication.identity import Identity
from api.authentication.resource_slice import GRANTED, ResourceSlice, ResourceSliceStatus
from api.meta import Condition, condition, seconds, with_condition
from identity import names, requests
from identity.consumer import nodes
from identity.consumer.keyring import Keyring
from identity.consumer.nodes import Nodes
from identity.consumer.remote import connect
from identity.consumer.settings import ConsumerSettings
from identity.problems import RefusedError, plain
from identity.writing import Own
from kube.client import Client
from kube.controller import Result
from kube.errors import ApiError, KubeError
from kube.guard import InUse
from kube.quantities import ZERO, Quantity, QuantityError
from kube.store import Key, Store

log = structlog.get_logger(__name__)

Json = dict[str, Any]

MIRRORED: Final = "Mirrored"
PENDING_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 5.0
VERIFY_SECONDS: Final = 15.0
"""How often a provider is asked whether what it granted still holds."""
_SHOWN: Final = 1000
_ORIGIN: Final = f"{GROUP}/origin-uid"
"""On the copy: the UID of our slice, for another one may have had the same name."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at the provider came to."""

    copy: ResourceSlice | None
    reason: str
    message: str


class Slices:
    """Reconciles by key of the ResourceSlice. `check_leading` raises if this process may not write (any more)."""

    def __init__(
        self,
        client: Client,
        settings: ConsumerSettings,
        *,
        in_use: InUse,
        slices: Store[ResourceSlice],
        identities: Store[Identity],
        now: Callable[[], datetime],
        check_leading: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._slices = slices
        self._identities = identities
        self._in_use = in_use
        self._now = now
        self._check_leading = check_leading
        self._keyring = Keyring(client, namespace=settings.namespace)
        self._own = Own(client, RESOURCE_SLICES, decode=ResourceSlice, check_leading=check_leading)
        self._nodes = Nodes(client, check_leading=check_leading)

    async def reconcile(self, key: Key) -> Result | None:
        """Bring one slice a step nearer to what it says. Errors of our own API are raised."""
        self._check_leading()
        one = self._slices.get(key)
        if one is None:
            await self._in_use.settle()
            return None
        if one.metadata.deletion_timestamp:
            return await self._remove(one)
        await self._in_use.hold()
        if names.SLICE_FINALIZER not in one.metadata.finalizers:
            claimed = await self._own.set_finalizers(one, (*one.metadata.finalizers, names.SLICE_FINALIZER))
            if claimed is None:
                return None
            one = claimed
        seen = await self._look(one)
        status = self._merged(one, seen)
        status = await self._follow(one, status)
        await self._say(one, status)
        return Result(requeue_after=self._again(one, seen, status))

    # -- at the provider

    async def _look(self, one: ResourceSlice) -> Seen:
        """Have the copy as our slice is now, and read it."""
        held = await self._keyring.held(one.spec.identity)
        if held is None:
            text = f"spec.identity: there is no Identity {one.spec.identity} by which a provider lets us in (yet)"
            return Seen(None, "NoIdentity", text)
        try:
            async with connect(held.place, held.proof) as client:
                copy = await self._copy(client, self._space(one), one)
        except KubeError as error:
            return Seen(None, "Unreachable", f"the provider cannot be asked: {error}")
        if copy is None:
            return Seen(None, "Replacing", "the copy of an earlier slice of this name is being removed")
        return Seen(copy, "Mirrored", "the provider has the slice")

    def _space(self, one: ResourceSlice) -> str:
        """Our namespace at the provider."""
        identity = self._identities.get(("", one.spec.identity))
        said = identity.spec.namespace if identity is not None else None
        return said or names.tenant_namespace(self._settings.consumer_id)

    async def _copy(self, client: Client, space: str, one: ResourceSlice) -> ResourceSlice | None:
        """The copy as it is to be; None while another slice's is in its place. Raises `KubeError`."""
        found = await _read(client, space, one.metadata.name)
        if found is not None and found.metadata.annotations.get(_ORIGIN) != one.metadata.uid:
            await _delete(client, found)
            return None
        wanted = self._wanted(one, found)
        if found is not None and found.spec == wanted:
            return found
        body = {
            "apiVersion": RESOURCE_SLICES.api_version,
            "kind": RESOURCE_SLICES.kind,
            "metadata": {
                "name": one.metadata.name,
                "namespace": space,
                "annotations": {_ORIGIN: one.metadata.uid},
            },
            "spec": msgspec.to_builtins(wanted),
        }
        self._check_leading()
        return await client.apply(
            RESOURCE_SLICES,
            body,
            name=one.metadata.name,
            namespace=space,
            field_manager=names.FIELD_MANAGER,
            decode=ResourceSlice,
        )

    def _wanted(self, one: ResourceSlice, found: ResourceSlice | None) -> Any:
        """The copy's spec: ours without the VirtualNode, with the time when we asked for the duration."""
        asked = found.spec.renew_time if found is not None else None
        if asked is None or self._is_due(one, asked):
            asked = requests.timestamp(self._now())
        return msgspec.structs.replace(one.spec, virtual_node=None, renew_time=asked)

    def _is_due(self, one: ResourceSlice, asked: str) -> bool:
        """Two thirds of the time that we asked for are over, by our own clock."""
        if one.spec.duration is None or one.spec.renewal == "Never":
            return False
        return self._now() >= _renewal(one, asked)

    # -- what follows

    def _merged(self, one: ResourceSlice, seen: Seen) -> ResourceSliceStatus:
        """Our status: what the provider says, or what it said as long as that holds."""
        now, status, meta = self._now(), one.status, one.metadata
        mirrored = Condition(
            type=MIRRORED,
            status="True" if seen.copy is not None else "False",
            reason=seen.reason,
            message=plain(seen.message, most=_SHOWN),
            observed_generation=meta.generation,
        )
        conditions = with_condition(status.conditions, mirrored, now=requests.timestamp(now))
        granted, expires = status.granted, status.expires
        said = condition(conditions, GRANTED)
        if seen.copy is not None:
            told = seen.copy.status
            said = condition(told.conditions, GRANTED) or Condition(
                type=GRANTED, status="Unknown", reason="Pending", message="the provider has not answered yet"
            )
            granted, expires = bounded(one, told), plain_time(told.expires)
        # As long as the provider can be asked, its word counts and not our clock.
        over = seen.copy is None and bool(expires) and now >= requests.parse_time(expires, field="f") + requests.SKEW
        if said is not None and said.status == "True" and over:
            said = Condition(type=GRANTED, status="False", reason="Expired", message=f"its time was over at {expires}")
        if said is not None:
            kept = Condition(
                type=GRANTED,
                status=said.status,
                reason=plain(said.reason, most=64),
                message=plain(said.message, most=_SHOWN),
                observed_generation=meta.generation,
            )
            conditions = with_condition(conditions, kept, now=requests.timestamp(now))
        holds = said is not None and said.status == "True"
        return ResourceSliceStatus(
            observed_generation=meta.generation,
            conditions=conditions,
            granted=granted if holds else {},
            expires=expires,
            virtual_node=status.virtual_node,
        )

    async def _follow(self, one: ResourceSlice, status: ResourceSliceStatus) -> ResourceSliceStatus:
        """Have the VirtualNode offer what is granted. It is made once something is, and stays as long as the slice."""
        if one.spec.virtual_node is None:
            left = await self._nodes.remove(one) if status.virtual_node else ""
            return msgspec.structs.replace(status, virtual_node=left)
        if not status.granted and not status.virtual_node:
            return status
        problem = await self._nodes.ensure(one, status.granted)
        said = Condition(
            type="NodeMade",
            status="False" if problem else "True",
            reason="NameTaken" if problem else "Made",
            message=problem or "see the VirtualNode's own status",
            observed_generation=one.metadata.generation,
        )
        conditions = with_condition(status.conditions, said, now=requests.timestamp(self._now()))
        name = "" if problem else nodes.name(one)
        return msgspec.structs.replace(status, conditions=conditions, virtual_node=name)

    def _again(self, one: ResourceSlice, seen: Seen, status: ResourceSliceStatus) -> float:
        if seen.copy is None or not status.granted:
            said = condition(status.conditions, GRANTED)
            return RETRY_SECONDS if said is not None and said.status == "False" else PENDING_SECONDS
        wait = VERIFY_SECONDS
        if one.spec.duration is not None and seen.copy.spec.renew_time:
            left = (_renewal(one, seen.copy.spec.renew_time) - self._now()).total_seconds()
            wait = min(wait, max(left, PENDING_SECONDS))
        return wait

    async def _remove(self, one: ResourceSlice) -> Result | None:
        """The node goes first, then the copy: what is given back is used no more."""
        if names.SLICE_FINALIZER not in one.metadata.finalizers:
            return None
        if left := await self._nodes.remove(one):
            await self._tell_removal(one, f"VirtualNode {left} is being drained and removed")
            return Result(requeue_after=PENDING_SECONDS / 2)
        forced = one.metadata.annotations.get(names.FORCE_ANNOTATION) == "true"
        held = await self._keyring.held(one.spec.identity)
        try:
            if held is not None:
                async with connect(held.place, held.proof) as client:
                    found = await _read(client, self._space(one), one.metadata.name)
                    if found is not None and found.metadata.annotations.get(_ORIGIN) == one.metadata.uid:
                        await _delete(client, found)
        except KubeError as error:
            refused = isinstance(error, ApiError) and (error.forbidden or error.unauthorized or error.not_found)
            if not (forced or refused):
                advice = f"to go without the provider set the annotation {names.FORCE_ANNOTATION}=true"
                await self._tell_removal(one, f"the copy at the provider cannot be removed: {error}; {advice}")
                return Result(requeue_after=PENDING_SECONDS)
        await self._in_use.release(one.metadata)
        await self._own.set_finalizers(one, tuple(f for f in one.metadata.finalizers if f != names.SLICE_FINALIZER))
        log.info("slice removed", slice=one.metadata.name)
        return None

    # -- requests

    async def _tell_removal(self, one: ResourceSlice, message: str) -> None:
        said = Condition(type=MIRRORED, status="False", reason="Removing", message=plain(message, most=_SHOWN))
        conditions = with_condition(one.status.conditions, said, now=requests.timestamp(self._now()))
        await self._say(one, msgspec.structs.replace(one.status, conditions=conditions))

    async def _say(self, one: ResourceSlice, status: ResourceSliceStatus) -> None:
        """Write the status if it says something new."""
        if status == one.status:
            return
        meta = one.metadata
        said, before = condition(status.conditions, GRANTED), condition(one.status.conditions, GRANTED)
        if said is not None and (before is None or before.reason != said.reason):
            log.info("slice", slice=meta.name, identity=one.spec.identity, reason=said.reason, granted=status.granted)
        await self._own.say(one, status)


async def _read(client: Client, space: str, name: str) -> ResourceSlice | None:
    return await client.find(RESOURCE_SLICES, name=name, namespace=space, decode=ResourceSlice)


async def _delete(client: Client, found: ResourceSlice) -> None:
    meta = found.metadata
    try:
        await client.delete(RESOURCE_SLICES, name=meta.name, namespace=meta.namespace, uid=meta.uid)
    except ApiError as error:
        if not (error.not_found or error.conflict):
            raise


def _renewal(one: ResourceSlice, asked: str) -> datetime:
    """When to ask anew for what was asked for then."""
    life = timedelta(seconds=seconds(one.spec.duration or "0s"))
    return requests.parse_time(asked, field="spec.renewTime") + life * requests.SHARE


def bounded(one: ResourceSlice, told: ResourceSliceStatus) -> dict[str, str | int]:
    """What the provider grants of what we asked for, and no more; what cannot be read is not granted."""
    found: dict[str, str | int] = {}
    for name, text in one.spec.resources.items():
        if name not in told.granted:
            continue
        try:
            amount = min(Quantity.parse(str(told.granted[name])), Quantity.parse(str(text)))
        except QuantityError:
            continue
        found[name] = str(max(amount, ZERO))
    return found


def plain_time(text: str) -> str:
    """A time that a provider told, as Kubernetes writes it; empty if it is none."""
    try:
        return requests.timestamp(requests.parse_time(text, field="status.expires")) if text else ""
    except RefusedError:
        return ""
