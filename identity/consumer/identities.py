"""Reconciles Identities: a key of ours, the Tenant for the provider, and a kubeconfig that is always good.

The credential in the Identity itself lets us in once, and again whenever the provider has changed who we are; its only
right is to ask for the one that works. That is renewed at two thirds of its life, through the provider's API; old and
new are good side by side, so no request is lost (fault F23).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
from identity.consumer.access import Place, Proof
from identity.consumer.joining import Joining
from identity.consumer.keyring import Held, Keyring
from identity.consumer.remote import Info, Remote, connect
from identity.consumer.settings import ConsumerSettings
from identity.keys import PrivateKey
from identity.problems import PendingError, RefusedError, plain
from identity.requests import Party
from identity.writing import Own
from kube.client import Client
from kube.controller import Result
from kube.errors import ApiError, KubeError
from kube.events import EventRecorder
from kube.guard import InUse
from kube.objects import ObjectReference
from kube.store import Key, Store

log = structlog.get_logger(__name__)

Json = dict[str, Any]

VERIFY_SECONDS: Final = 30.0
"""How often a provider is asked whether we are still who we were."""
WAIT_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 3.0
"""How soon one that does not let us in is asked again: rights take a moment to count."""
_READY: Final = "Ready"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one look at an Identity came to."""

    ready: bool
    reason: str
    message: str
    again: float
    held: Held | None = None


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
        self._joining = Joining(self._keyring, consumer_id=settings.consumer_id)
        self._party = Party(consumer_id=settings.consumer_id, cluster_id=settings.cluster_id)

    async def reconcile(self, key: Key) -> Result | None:
        """Bring one Identity a step nearer to what it says. Errors of our own API are raised."""
        self._check_leading()
        identity = self._identities.get(key)
        if identity is None:
            await self._in_use.settle()
            return None
        if identity.metadata.deletion_timestamp:
            return await self._remove(identity)
        await self._in_use.hold()
        if names.IDENTITY_FINALIZER not in identity.metadata.finalizers:
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
            outcome = await self._enter(identity, key, held, asking=status.tenant)
        except PendingError as error:
            outcome = Outcome(self._is_good(held), "Pending", str(error), WAIT_SECONDS, held)
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
        entered = condition(status.conditions, _READY)
        used = entered is not None and entered.status == "True" and status.key == key.digest()
        if manifest.is_good(status.tenant, key, self._party, now=now, lifetime=lifetime) or (used and status.tenant):
            return msgspec.structs.replace(status, key=key.digest())
        made = manifest.tenant(key, self._party, identity=identity.metadata.name, now=now)
        return msgspec.structs.replace(status, tenant=made, key=key.digest())

    # -- at the provider

    async def _enter(self, identity: Identity, key: PrivateKey, held: Held | None, *, asking: str) -> Outcome:
        """Be who the provider says we are now. Raises `PendingError`, `RefusedError` and `KubeError`."""
        place = _place(identity, held)
        if place is None:
            text = "apply status.tenant at the provider, and here what it answers (the Tenant's status.identity)"
            return Outcome(False, "AwaitingProvider", text, VERIFY_SECONDS)
        held = await self._moved(identity.metadata.name, place, held)
        if held is not None and self._is_good(held):
            outcome = await self._join(identity, key, held, place, held.proof)
            if not isinstance(outcome, ApiError):
                return outcome
            if (said := condition(identity.status.conditions, _READY)) is not None and said.status == "True":
                log.info("credential refused, joining anew", identity=identity.metadata.name)
            held = held if outcome.forbidden else None  # 401: it is over, whatever our clock says (fault F22)
        kept = await self._joining.kept(identity, key)
        if kept is not None and not isinstance(outcome := await self._join(identity, key, held, place, kept), ApiError):
            return outcome
        if identity.spec.invitation is not None and not (identity.spec.certificate or identity.spec.sealed_token):
            identity = await self._redeem(identity, key, place, asking=asking)
        outcome = await self._join(identity, key, held, place, self._joining.given(identity, key))
        if not isinstance(outcome, ApiError):
            return outcome
        text = (
            "the provider does not let us in: our Tenant there is drained, removed or not applied, or knows "
            "another key; let it apply our Tenant (status.tenant), and apply what it answers "
            f"({outcome.status}: {outcome.message[:300]})"
        )
        raise RefusedError("NotLetIn", text)

    async def _join(
        self, identity: Identity, key: PrivateKey, held: Held | None, place: Place, proof: Proof
    ) -> Outcome | ApiError:
        """As `_renew`, or with which words the provider turns this proof away."""
        try:
            return await self._renew(identity, key, held, place, proof)
        except ApiError as error:
            if error.unauthorized or error.forbidden:
                return error
            raise

    async def _redeem(self, identity: Identity, key: PrivateKey, place: Place, *, asking: str) -> Identity:
        """Become the Tenant that we were invited to be: the Identity with what lets us in from now on.

        Raises `PendingError`, `RefusedError` and `KubeError`.
        """
        entry, name = identity.spec.invitation, identity.metadata.name
        token = await self._keyring.given(entry.name, entry.key) if entry is not None else None
        if entry is None or not token:
            text = "spec.invitation: its Secret is not there; apply the invitation as a whole"
            raise RefusedError("AwaitingProvider", text)
        space = identity.spec.namespace or names.tenant_namespace(self._settings.consumer_id)
        proof = Proof(user="", token=token.decode("ascii", "ignore").strip())
        async with connect(place, proof) as client:
            remote = Remote(client, namespace=space, consumer_id=self._settings.consumer_id)
            try:
                answer = await remote.redeem(manifest.asking(asking), key=key)
            except ApiError as error:
                if not (error.unauthorized or error.forbidden):
                    raise
                text = (
                    "the invitation was used, or is over: ask the provider for another, or let it apply our Tenant "
                    f"(status.tenant) ({error.status})"
                )
                raise RefusedError("InvitationVoid", text) from None
            self._check_leading()
            given = {"spec": manifest.answered(answer)}
            identity = await self._client.patch(IDENTITIES, given, name=name, decode=Identity)
            await remote.redeemed(key=key)
        log.info("invitation redeemed", identity=name)
        return identity

    async def _moved(self, name: str, place: Place, held: Held | None) -> Held | None:
        """The kubeconfig follows the Identity's address and authorities."""
        if held is None or held.place == place:
            return held
        moved = Held(
            place=place, proof=held.proof, renew_after=held.renew_after, expires=held.expires, renewed=held.renewed
        )
        self._check_leading()
        await self._keyring.hold(name, moved)
        log.info("provider moved", identity=name, server=place.server)
        return moved

    async def _renew(
        self, identity: Identity, key: PrivateKey, held: Held | None, place: Place, proof: Proof
    ) -> Outcome:
        name = identity.metadata.name
        space = identity.spec.namespace or names.tenant_namespace(self._settings.consumer_id)
        async with connect(place, proof) as client:
            remote = Remote(client, namespace=space, consumer_id=self._settings.consumer_id)
            info = await remote.info()
            await self._joining.keep(identity, key, info.entry)
            if held is None or held.proof.user != info.user or self._is_due(held):
                try:
                    held = await self._ask(name, remote, info, place, key)
                except PendingError as error:
                    if held is None or held.proof.user != info.user or not self._is_good(held):
                        raise
                    text = f"the credential is due and could not be renewed yet: {error}"
                    return Outcome(True, "RenewalPending", text, WAIT_SECONDS * 5, held)
        return self._entered(info, held)

    async def _ask(self, name: str, remote: Remote, info: Info, place: Place, key: PrivateKey) -> Held:
        pending = await self._keyring.pending(name)
        try:
            issued = await remote.ask(info.user, key=key, pending=pending)
        except RefusedError:
            await self._keyring.forget_pending(name)
            raise
        now = self._now()
        held = Held(
            place=place,
            proof=issued.proof,
            renew_after=requests.timestamp(now + issued.life * requests.SHARE),
            expires=requests.timestamp(now + issued.life),
            renewed=requests.timestamp(now),
        )
        self._check_leading()
        await self._keyring.hold(name, held)
        await self._keyring.forget_pending(name)
        log.info("credential renewed", identity=name, user=info.user, expires=held.expires)
        return held

    def _entered(self, info: Info, held: Held) -> Outcome:
        left = (requests.parse_time(held.renew_after, field="renew-after") - self._now()).total_seconds()
        again = min(VERIFY_SECONDS, max(left, WAIT_SECONDS))
        if info.state == "Cordoned":
            return Outcome(True, "Cordoned", "the provider lets us in and grants nothing new", again, held)
        return Outcome(True, "LetIn", f"the provider lets us in as {info.user}", again, held)

    def _is_good(self, held: Held | None) -> bool:
        return held is not None and self._now() < requests.parse_time(held.expires, field="expires")

    def _is_due(self, held: Held) -> bool:
        return self._now() >= requests.parse_time(held.renew_after, field="renew-after")

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
        await self._keyring.remove(identity.metadata.name)
        await self._in_use.release(identity.metadata)
        kept = tuple(f for f in identity.metadata.finalizers if f != names.IDENTITY_FINALIZER)
        await self._own.set_finalizers(identity, kept)
        log.info("identity removed", identity=identity.metadata.name)
        return None

    async def _users(self, identity: Identity) -> list[str]:
        secret = names.kubeconfig_secret(identity.metadata.name)
        nodes = await self._client.list(VIRTUAL_NODES, decode=VirtualNode)
        space = self._settings.namespace
        slices = await self._client.list(RESOURCE_SLICES, namespace=space, decode=ResourceSlice)
        using = [one.metadata.name for one in slices.items if one.spec.identity == identity.metadata.name]
        return sorted(using + [v.metadata.name for v in nodes.items if v.spec.kubeconfig_secret.name == secret])

    # -- requests

    async def _say(self, identity: Identity, status: IdentityStatus, outcome: Outcome) -> None:
        """Write the status if it says something new."""
        meta, held = identity.metadata, outcome.held
        said = Condition(
            type=_READY,
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
        before = condition(identity.status.conditions, _READY)
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


def outcome_of(problem: str) -> Outcome:
    """What a given kubeconfig comes to; `problem` is empty if it can be used."""
    if problem:
        return Outcome(False, "BadKubeconfig", problem, VERIFY_SECONDS)
    return Outcome(True, "Given", "the kubeconfig that was given can be used", VERIFY_SECONDS)


def _place(identity: Identity, held: Held | None) -> Place | None:
    """Where the provider is: as the Identity says, else as it said when we were let in."""
    spec = identity.spec
    if spec.server and spec.ca_bundle:
        return Place(server=spec.server, ca=spec.ca_bundle)
    return held.place if held is not None else None


def _secret(identity: Identity, held: Held | None) -> str:
    if identity.spec.method == "Kubeconfig":
        return identity.spec.secret.name if identity.spec.secret is not None else ""
    return names.kubeconfig_secret(identity.metadata.name) if held is not None else ""
