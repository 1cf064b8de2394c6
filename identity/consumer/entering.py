"""Being let in by a provider: with what works, else with what is to join with, or by an invitation; and renewal.

The credential in the Identity itself lets us in once, and again whenever the provider has changed who we are; its only
right is to ask for the one that works. That is renewed at two thirds of its life, through the provider's API; old and
new are good side by side, so no request is lost (fault F23).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from api.authentication.definitions import IDENTITIES
from api.authentication.identity import Identity
from api.meta import condition
from identity import names, requests
from identity.consumer import manifest
from identity.consumer.access import Place, Proof
from identity.consumer.joining import Joining
from identity.consumer.keyring import Held, Keyring
from identity.consumer.remote import Info, Remote, connect
from identity.consumer.settings import ConsumerSettings
from identity.keys import PrivateKey
from identity.problems import PendingError, RefusedError
from kube.client import Client
from kube.errors import ApiError

log = structlog.get_logger(__name__)

READY: Final = "Ready"
VERIFY_SECONDS: Final = 30.0
"""How often a provider is asked whether we are still who we were."""
WAIT_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one look at an Identity came to."""

    ready: bool
    reason: str
    message: str
    again: float
    held: Held | None = None


class Entry:
    """For the Identities of one consumer. `check_leading` raises if this process may not write (any more)."""

    def __init__(
        self,
        client: Client,
        settings: ConsumerSettings,
        keyring: Keyring,
        *,
        now: Callable[[], datetime],
        check_leading: Callable[[], None],
    ) -> None:
        self._client = client
        self._settings = settings
        self._keyring = keyring
        self._joining = Joining(keyring, consumer_id=settings.consumer_id)
        self._now = now
        self._check_leading = check_leading

    async def enter(self, identity: Identity, key: PrivateKey, held: Held | None, *, asking: str) -> Outcome:
        """Be who the provider says we are now. Raises `PendingError`, `RefusedError` and `KubeError`."""
        place = _place(identity, held)
        if place is None:
            text = "apply status.tenant at the provider, and here what it answers (the Tenant's status.identity)"
            return Outcome(False, "AwaitingProvider", text, VERIFY_SECONDS)
        held = await self._moved(identity.metadata.name, place, held)
        if held is not None and self.is_good(held):
            outcome = await self._join(identity, key, held, place, held.proof)
            if not isinstance(outcome, ApiError):
                return outcome
            if (said := condition(identity.status.conditions, READY)) is not None and said.status == "True":
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
            self._check_leading()
            await self._joining.keep(identity, key, info.entry)
            if held is None or held.proof.user != info.user or self._is_due(held):
                try:
                    held = await self._ask(name, remote, info, place, key)
                except PendingError as error:
                    if held is None or held.proof.user != info.user or not self.is_good(held):
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

    def is_good(self, held: Held | None) -> bool:
        """Whether there is a credential that is not over by our clock."""
        return held is not None and self._now() < requests.parse_time(held.expires, field="expires")

    def _is_due(self, held: Held) -> bool:
        return self._now() >= requests.parse_time(held.renew_after, field="renew-after")


def _place(identity: Identity, held: Held | None) -> Place | None:
    """Where the provider is: as the Identity says, else as it said when we were let in."""
    spec = identity.spec
    if spec.server and spec.ca_bundle:
        return Place(server=spec.server, ca=spec.ca_bundle)
    return held.place if held is not None else None
