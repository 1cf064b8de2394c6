"""Answers CredentialRequests: the next credential for a tenant that is let in and shows its key.

A request is answered once. Whoever has a tenant's working credential and not its key cannot renew it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec
import structlog

from api.authentication.credential_request import CredentialRequest, CredentialRequestStatus, PeeringRequest
from api.authentication.definitions import CREDENTIAL_REQUESTS, TENANTS
from api.authentication.tenant import Tenant
from api.meta import Condition, condition, with_condition
from identity import keys, names, requests
from identity.problems import PendingError, RefusedError
from identity.provider.issuing import Credential, Issuer
from identity.provider.settings import ProviderSettings
from identity.provider.writing import Writer
from identity.requests import Party
from identity.writing import Own
from kube.client import Client
from kube.controller import Result
from kube.store import Key, Store

log = structlog.get_logger(__name__)

Json = dict[str, Any]

ISSUED: Final = "Issued"
WAIT_SECONDS: Final = 0.5
_LATER: Final = 5.0


class Credentials:
    """Reconciles by key of the CredentialRequest. `check_leading` raises if this process may not write (any more)."""

    def __init__(
        self,
        client: Client,
        settings: ProviderSettings,
        *,
        asked: Store[CredentialRequest],
        tenants: Store[Tenant],
        now: Callable[[], datetime],
        check_leading: Callable[[], None],
    ) -> None:
        self._client = client
        self._settings = settings
        self._asked = asked
        self._tenants = tenants
        self._now = now
        self._check_leading = check_leading
        self._own = Own(client, CREDENTIAL_REQUESTS, decode=CredentialRequest, check_leading=check_leading)
        self._writer = Writer(client, check_leading=check_leading)
        self._issuer = Issuer(client, check_leading=check_leading)

    async def reconcile(self, key: Key) -> Result | None:
        """Answer one request. Errors are raised: the controller tries again."""
        self._check_leading()
        asked = self._asked.get(key)
        if asked is None or asked.metadata.deletion_timestamp:
            return None
        said = condition(asked.status.conditions, ISSUED)
        if said is not None and said.reason not in ("SignerPending", "NotLetIn"):
            return None
        await self._tidy(key[0])
        try:
            if asked.spec.peering is not None:
                await self._say(asked, "True", "Issued", "you are let in", identity=await self._join(key[0], asked))
                return None
            tenant = self._tenant(key[0])
            issued = await self._issue(tenant, asked)
        except PendingError as error:
            await self._say(asked, "False", "SignerPending", str(error))
            return Result(requeue_after=WAIT_SECONDS)
        except RefusedError as error:
            await self._say(asked, "False", error.reason, str(error))
            return Result(requeue_after=_LATER) if error.reason == "NotLetIn" else None
        await self._say(asked, "True", "Issued", f"good until {issued.expires}", issued=issued)
        return None

    def _tenant(self, namespace: str) -> Tenant:
        """The tenant whose namespace this is, if it is let in. Raises `RefusedError`."""
        tenant = self._tenants.get(("", namespace.removeprefix(names.NAMESPACE_PREFIX)))
        if tenant is None or names.tenant_namespace(tenant.consumer_id) != namespace:
            raise RefusedError("NotLetIn", f"namespace {namespace} is no tenant's")
        if tenant.spec.state == "Drained" or tenant.metadata.deletion_timestamp or not tenant.status.user:
            raise RefusedError("NotLetIn", f"tenant {tenant.consumer_id} is {tenant.spec.state} or being removed")
        return tenant

    async def _join(self, namespace: str, asked: CredentialRequest) -> str:
        """The manifest for one who was invited, who becomes the Tenant if nobody is yet. Raises as `_issue`."""
        tenant, wanted = self._tenants.get(("", namespace.removeprefix(names.NAMESPACE_PREFIX))), asked.spec.peering
        if tenant is None or wanted is None or tenant.spec.invitation is None:
            raise RefusedError("NotInvited", f"nobody is invited to namespace {namespace}")
        if tenant.spec.request is None:
            self._check_invited(tenant, wanted)
            body = {"metadata": {"resourceVersion": tenant.metadata.resource_version, "uid": tenant.metadata.uid}}
            self._check_leading()
            spec = msgspec.to_builtins(wanted)
            await self._client.patch(TENANTS, {**body, "spec": spec}, name=tenant.metadata.name)
            log.info("invitation used", tenant=tenant.consumer_id, cluster=wanted.cluster_id)
            raise PendingError("the invitation is accepted; the credential is being made")
        if tenant.spec.public_key != wanted.public_key:
            text = "somebody else used this invitation: tell the provider's administrator"
            raise RefusedError("InvitationUsed", text)
        key = keys.digest(keys.load_public(wanted.public_key))
        if not tenant.status.identity or tenant.status.key != key:
            raise PendingError("the credential is being made")
        return tenant.status.identity

    def _check_invited(self, tenant: Tenant, wanted: PeeringRequest) -> None:
        """Raise `RefusedError` unless the request is good and the invitation is."""
        invitation = tenant.spec.invitation
        expires = invitation.expires if invitation is not None else ""
        if self._now() >= requests.parse_time(expires, field="spec.invitation.expires"):
            raise RefusedError("InvitationExpired", f"the invitation was good until {expires}")
        if tenant.spec.state != "Active" or tenant.metadata.deletion_timestamp:
            raise RefusedError("NotLetIn", f"tenant {tenant.consumer_id} is {tenant.spec.state} or being removed")
        party = Party(consumer_id=tenant.consumer_id, cluster_id=wanted.cluster_id)
        requests.check_request(wanted.request, party, public_key=wanted.public_key)
        lifetime = self._settings.request_lifetime
        requests.check_fresh(wanted.request, now=self._now(), last="", nonces=(), lifetime=lifetime)

    async def _issue(self, tenant: Tenant, asked: CredentialRequest) -> Credential:
        """What was asked for. Raises `RefusedError`, `PendingError` and `ApiError`."""
        spec, user, public_key = asked.spec, tenant.status.user, tenant.spec.public_key or ""
        csr = requests.check_credential(spec.certificate_request, spec.signature, user=user, public_key=public_key)
        if keys.digest(keys.load_public(public_key)) != tenant.status.key:
            raise RefusedError("NotLetIn", f"the key of tenant {tenant.consumer_id} is not accepted yet")
        lifetime = self._settings.credential_lifetime
        if tenant.spec.credential == "Token":
            life = names.incarnation(tenant.metadata.uid, tenant.status.epoch)
            return await self._issuer.token(tenant, csr, account=names.account(life), lifetime=lifetime)
        return await self._issuer.certificate(tenant, csr, user=user, lifetime=lifetime)

    async def _tidy(self, namespace: str) -> None:
        """Remove requests beyond the number that is kept, the oldest first: nobody fills our store (abuse test A29)."""
        found = sorted(
            self._asked.by_index("namespace", namespace),
            key=lambda item: (item.metadata.creation_timestamp, item.metadata.name),
        )
        for item in found[: -self._settings.request_limit]:
            await self._writer.delete(
                CREDENTIAL_REQUESTS, item.metadata.name, item.metadata.namespace, uid=item.metadata.uid
            )

    async def _say(
        self,
        asked: CredentialRequest,
        status: Any,
        reason: str,
        message: str,
        *,
        issued: Credential | None = None,
        identity: str = "",
    ) -> None:
        made = Condition(type=ISSUED, status=status, reason=reason, message=message)
        wanted = CredentialRequestStatus(
            conditions=with_condition(asked.status.conditions, made, now=requests.timestamp(self._now())),
            certificate=issued.certificate if issued else "",
            sealed_token=issued.sealed_token if issued else "",
            expires=issued.expires if issued else "",
            identity=identity,
        )
        if wanted == asked.status:
            return
        meta = asked.metadata
        log.info("credential request", tenant=meta.namespace, request=meta.name, reason=reason, message=message)
        await self._own.say(asked, wanted)
