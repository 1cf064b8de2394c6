"""Reconciles Identities: a key of ours, the Tenant for the provider, and a kubeconfig that is always good."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec
import structlog

from api.authentication.definitions import IDENTITIES, RESOURCE_SLICES
from api.authentication.identity import Identity, IdentityStatus
from api.authentication.resource_slice import ResourceSlice
from api.meta import Condition, condition, with_condition
from api.offloading.definitions import VIRTUAL_NODES
from api.offloading.virtual_node import VirtualNode
from identity import names, requests
from identity.consumer import given, manifest
from identity.consumer.entering import READY, VERIFY_SECONDS, WAIT_SECONDS, Entry, Outcome
from identity.consumer.keyring import KEPT_UNTIL, Held, Keyring, Retired
from identity.consumer.settings import ConsumerSettings
from identity.keys import PrivateKey
from identity.problems import PendingError, RefusedError, plain
from identity.requests import Party
from identity.writing import Own
from kube.client import Client
from kube.controller import Result
from kube.errors import KubeError
from kube.events import EventRecorder
from kube.guard import InUse
from kube.objects import ObjectReference
from kube.store import Key, Store

log = structlog.get_logger(__name__)

Json = dict[str, Any]

RETRY_SECONDS: Final = 3.0
"""How soon one that does not let us in is asked again: rights take a moment to count."""


class Identities:
    """Reconciles by key of the Identity. `check_leading` raises if this process may not write (any more)."""

    def __init__(
        self,
        client: Client,
        settings: ConsumerSettings,
        *,
        in_use: InUse,
        identities: Store[Identity],
        recorder: EventRecorder,
        now: Callable[[], datetime],
        check_leading: Callable[[], None],
    ) -> None:
        self._client = client
        self._settings = settings
        self._identities = identities
        self._in_use = in_use
        self._recorder = recorder
        self._now = now
        self._check_leading = check_leading
        self._own = Own(client, IDENTITIES, decode=Identity, check_leading=check_leading)
        self._keyring = Keyring(client, namespace=settings.namespace)
        self._entry = Entry(client, settings, self._keyring, now=now, check_leading=check_leading)
        self._party = Party(consumer_id=settings.consumer_id, cluster_id=settings.cluster_id)

    async def reconcile(self, key: Key) -> Result | None:
        """Bring one Identity a step nearer to what it says. Errors of our own API are raised."""
        self._check_leading()
        identity = self._identities.get(key)
        if identity is None:
            await self._in_use.settle()
            return await self._bury()
        if identity.metadata.deletion_timestamp:
            return await self._remove(identity)
        await self._in_use.hold()
        if names.IDENTITY_FINALIZER not in identity.metadata.finalizers:
            self._check_leading()
            await self._keyring.resume(identity.metadata.name)
            claimed = await self._own.set_finalizers(
                identity, (*identity.metadata.finalizers, names.IDENTITY_FINALIZER)
            )
            if claimed is None:
                return None
            identity = claimed
        if identity.spec.method == "Kubeconfig":
            outcome = await given.look(identity, self._keyring)
            await self._say(identity, identity.status, outcome_of(outcome))
            return Result(requeue_after=VERIFY_SECONDS)
        return await self._exchange(identity)

    async def _exchange(self, identity: Identity) -> Result:
        name = identity.metadata.name
        key = await self._keyring.key(name)
        status = self._asking(identity, key)
        held = await self._keyring.held(name)
        try:
            outcome = await self._entry.enter(identity, key, held, asking=status.tenant)
        except PendingError as error:
            outcome = Outcome(self._entry.is_good(held), "Pending", str(error), WAIT_SECONDS, held)
        except RefusedError as error:
            again = RETRY_SECONDS if error.reason == "NotLetIn" else VERIFY_SECONDS
            outcome = Outcome(False, error.reason, str(error), again, held)
        except KubeError as error:
            outcome = Outcome(False, "Unreachable", f"the provider cannot be asked: {error}", VERIFY_SECONDS / 6, held)
        await self._say(identity, status, outcome)
        return Result(requeue_after=outcome.again)

    def _asking(self, identity: Identity, key: PrivateKey) -> IdentityStatus:
        """The status with the Tenant for the provider: made anew when the key is another one, or before it expires."""
        status, now = identity.status, self._now()
        lifetime = requests.LIFETIME / 2
        entered = condition(status.conditions, READY)
        used = entered is not None and entered.status == "True" and status.key == key.digest()
        if manifest.is_good(status.tenant, key, self._party, now=now, lifetime=lifetime) or (used and status.tenant):
            return msgspec.structs.replace(status, key=key.digest())
        made = manifest.tenant(key, self._party, identity=identity.metadata.name, now=now)
        return msgspec.structs.replace(status, tenant=made, key=key.digest())

    # -- the end

    async def _remove(self, identity: Identity) -> Result | None:
        """The Secrets stay while a VirtualNode needs them to leave the provider in order."""
        if names.IDENTITY_FINALIZER not in identity.metadata.finalizers:
            return None
        forced = identity.metadata.annotations.get(names.FORCE_ANNOTATION) == "true"
        if not forced and (users := await self._users(identity)):
            text = f"ResourceSlices or VirtualNodes use it: {', '.join(users[:5])}; delete them first"
            await self._say(identity, identity.status, Outcome(False, "InUse", text, WAIT_SECONDS))
            return Result(requeue_after=WAIT_SECONDS)
        self._check_leading()
        if forced:
            await self._keyring.remove(identity.metadata.name)
        else:
            until = requests.timestamp(self._now() + self._settings.key_retention)
            await self._keyring.retire(identity.metadata.name, until=until)
        await self._in_use.release(identity.metadata)
        kept = tuple(f for f in identity.metadata.finalizers if f != names.IDENTITY_FINALIZER)
        await self._own.set_finalizers(identity, kept)
        log.info("identity removed", identity=identity.metadata.name)
        return None

    async def _bury(self) -> Result | None:
        """Remove the keys whose time is over; comes back when the next one's is."""
        left = []
        for retired in await self._keyring.retired():
            if self._identities.get(("", retired.identity)) is not None:
                continue  # about to be taken back into use
            if (seconds := _seconds_left(retired, self._now())) > 0:
                left.append(seconds)
                continue
            self._check_leading()
            await self._keyring.bury(retired)
            log.info("key of a deleted identity removed", identity=retired.identity)
        return Result(requeue_after=min(left) + 1) if left else None

    async def _users(self, identity: Identity) -> list[str]:
        secret = names.kubeconfig_secret(identity.metadata.name)
        # Who takes isthmus away takes definitions away too, and waits for us: those may go first that have no objects.
        nodes = await self._client.list(VIRTUAL_NODES, decode=VirtualNode, missing_ok=True)
        space = self._settings.namespace
        slices = await self._client.list(RESOURCE_SLICES, namespace=space, decode=ResourceSlice, missing_ok=True)
        using = [one.metadata.name for one in slices.items if one.spec.identity == identity.metadata.name]
        return sorted(using + [v.metadata.name for v in nodes.items if v.spec.kubeconfig_secret.name == secret])

    # -- requests

    async def _say(self, identity: Identity, status: IdentityStatus, outcome: Outcome) -> None:
        """Write the status if it says something new."""
        meta, held = identity.metadata, outcome.held
        said = Condition(
            type=READY,
            status="True" if outcome.ready else "False",
            reason=outcome.reason,
            message=plain(outcome.message),
            observed_generation=meta.generation,
        )
        wanted = msgspec.structs.replace(
            status,
            observed_generation=meta.generation,
            conditions=with_condition(status.conditions, said, now=requests.timestamp(self._now())),
            user=held.proof.user if held is not None else "",
            kubeconfig_secret=_secret(identity, held),
            renewed=held.renewed if held is not None else "",
            expires=held.expires if held is not None else "",
        )
        if wanted == identity.status:
            return
        before = condition(identity.status.conditions, READY)
        if before is None or before.reason != outcome.reason:
            log.info("identity", identity=meta.name, ready=outcome.ready, reason=outcome.reason)
            self._event(identity, outcome)
        # In the very state that we know: with a cache that is behind we would make another request.
        await self._own.say(identity, wanted, unchanged=True)

    def _event(self, identity: Identity, outcome: Outcome) -> None:
        meta = identity.metadata
        ref = ObjectReference(kind=IDENTITIES.kind, api_version=IDENTITIES.api_version, name=meta.name, uid=meta.uid)
        kind = "Normal" if outcome.ready or outcome.reason == "AwaitingProvider" else "Warning"
        self._recorder.event(ref, type=kind, reason=outcome.reason, message=plain(outcome.message))


def _seconds_left(retired: Retired, now: datetime) -> float:
    """How long a key is kept yet; one without a time goes."""
    try:
        return (requests.parse_time(retired.until, field=KEPT_UNTIL) - now).total_seconds()
    except RefusedError:
        return 0.0


def outcome_of(problem: str) -> Outcome:
    """What a given kubeconfig comes to; `problem` is empty if it can be used."""
    if problem:
        return Outcome(False, "BadKubeconfig", problem, VERIFY_SECONDS)
    return Outcome(True, "Given", "the kubeconfig that was given can be used", VERIFY_SECONDS)


def _secret(identity: Identity, held: Held | None) -> str:
    if identity.spec.method == "Kubeconfig":
        return identity.spec.secret.name if identity.spec.secret is not None else ""
    return names.kubeconfig_secret(identity.metadata.name) if held is not None else ""
