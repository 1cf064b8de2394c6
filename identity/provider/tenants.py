"""Reconciles Tenants: the request is checked, the tenant gets a namespace, rights and a flow, and its first credential.

A Tenant that is edited into something wrong keeps what it had.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
import structlog

from api.authentication.credential_request import CredentialRequest
from api.authentication.definitions import TENANTS
from api.authentication.tenant import Tenant, TenantStatus
from api.meta import Condition, condition, with_condition
from identity import names, requests
from identity.problems import PendingError, RefusedError
from identity.provider import manifest, rights
from identity.provider.acceptance import Acceptance
from identity.provider.inviting import Inviting
from identity.provider.issuing import Credential, Issuer
from identity.provider.removal import Removal
from identity.provider.settings import ProviderSettings
from identity.provider.writing import Writer
from identity.requests import Csr
from identity.writing import Own
from kube.client import Client
from kube.controller import Result
from kube.events import EventRecorder
from kube.guard import InUse
from kube.objects import ObjectReference
from kube.resources import CONFIG_MAPS, NAMESPACES, Resource
from kube.store import Key, Store

log = structlog.get_logger(__name__)

Json = dict[str, Any]

FLOW_SCHEMAS: Final = Resource("flowcontrol.apiserver.k8s.io", "v1", "flowschemas", "FlowSchema", namespaced=False)
VERIFY_SECONDS: Final = 60.0
"""How often a tenant's objects are looked at: what somebody made of them is taken back."""
WAIT_SECONDS: Final = 1.0
_READY: Final = "Ready"


@dataclass(frozen=True, slots=True)
class Said:
    """What the condition Ready says."""

    ready: bool
    reason: str
    message: str


class Tenants:
    """Reconciles by key of the Tenant. `check_leading` raises if this process may not write (any more)."""

    def __init__(
        self,
        client: Client,
        settings: ProviderSettings,
        *,
        in_use: InUse,
        tenants: Store[Tenant],
        asked: Store[CredentialRequest],
        recorder: EventRecorder,
        now: Callable[[], datetime],
        check_leading: Callable[[], None],
    ) -> None:
        self._client = client
        self._settings = settings
        self._tenants = tenants
        self._in_use = in_use
        self._recorder = recorder
        self._now = now
        self._check_leading = check_leading
        self._own = Own(client, TENANTS, decode=Tenant, check_leading=check_leading)
        self._writer = Writer(client, check_leading=check_leading)
        self._issuer = Issuer(client, check_leading=check_leading)
        self._removal = Removal(client, self._writer)
        self._acceptance = Acceptance(settings, now=now, tell=self._event)
        self._inviting = Inviting(self._writer, self._issuer, settings, asked=asked, now=now)

    async def reconcile(self, key: Key) -> Result | None:
        """Bring one Tenant a step nearer to what it says. Errors are raised: the controller tries again."""
        self._check_leading()
        tenant = self._tenants.get(key)
        if tenant is None:
            await self._in_use.settle()
            return None
        if tenant.metadata.deletion_timestamp:
            return await self._remove(tenant)
        await self._in_use.hold()
        if names.FINALIZER not in tenant.metadata.finalizers:
            claimed = await self._own.set_finalizers(tenant, (*tenant.metadata.finalizers, names.FINALIZER))
            if claimed is None:
                return None
            tenant = claimed
        try:
            return await self._bring(tenant)
        except RefusedError as error:
            await self._say(tenant, tenant.status, Said(False, error.reason, str(error)))
            return Result(requeue_after=VERIFY_SECONDS)

    async def _bring(self, tenant: Tenant) -> Result:
        if tenant.spec.request is None:
            return await self._invite(tenant)
        csr, accepted = self._acceptance.accept(tenant)
        tenant = await self._record(tenant, accepted)
        if tenant.spec.state == "Drained":
            return await self._drain(tenant)
        foreign = await self._ensure_namespace(tenant)
        if foreign:
            await self._say(tenant, tenant.status, Said(False, "ForeignNamespace", foreign))
            return Result(requeue_after=VERIFY_SECONDS / 6)
        await self._ensure_rights(tenant)
        if tenant.status.invited and await self._inviting.close(tenant):
            tenant = await self._write(tenant, msgspec.structs.replace(tenant.status, invited=""))
        return await self._admit(tenant, csr)

    async def _invite(self, tenant: Tenant) -> Result:
        """Nobody is this tenant yet. Raises `RefusedError` when nobody may become it any more."""
        namespace = names.tenant_namespace(tenant.consumer_id)
        if tenant.spec.state == "Drained":
            return await self._drain(tenant)
        if foreign := await self._ensure_namespace(tenant):
            await self._say(tenant, tenant.status, Said(False, "ForeignNamespace", foreign))
            return Result(requeue_after=VERIFY_SECONDS / 6)
        await self._writer.bind(rights.manager_binding(tenant, self._settings))
        if (left := self._inviting.left(tenant)) <= 0:
            await self._inviting.close(tenant)
            await self._say(
                tenant,
                msgspec.structs.replace(tenant.status, invited="", identity="", namespace=namespace),
                Said(False, "InvitationExpired", "nobody came in time: set spec.invitation.expires anew"),
            )
            return Result(requeue_after=VERIFY_SECONDS)
        account = await self._inviting.open(tenant)
        text = manifest.identity(tenant, self._settings)
        status = msgspec.structs.replace(tenant.status, namespace=namespace, invited=account, identity=text)
        said = f"give the consumer status.identity and a token of service account {account} in {namespace}"
        await self._say(tenant, status, Said(False, "Invited", said))
        return Result(requeue_after=min(VERIFY_SECONDS, left + 0.1))

    # -- what it gets

    async def _ensure_namespace(self, tenant: Tenant) -> str:
        """The tenant's namespace; what is wrong with the one that is there, if it is another's."""
        name = names.tenant_namespace(tenant.consumer_id)
        found = await self._writer.read(NAMESPACES, name)
        if found is None:
            self._check_leading()
            await self._client.create(NAMESPACES, rights.namespace(tenant))
            return ""
        if found["metadata"].get("annotations", {}).get(names.UID_ANNOTATION) == tenant.metadata.uid:
            return ""
        return f"namespace {name} exists and was not made for this Tenant: remove it, or use another consumer id"

    async def _ensure_rights(self, tenant: Tenant) -> None:
        join = self._join_user(tenant)
        user = tenant.status.user
        await self._writer.bind(rights.manager_binding(tenant, self._settings))
        for body in rights.bindings(tenant, self._settings, user=user, join=join):
            await self._writer.bind(body)
        info = rights.info(tenant, self._settings, user=user)
        await self._writer.ensure(CONFIG_MAPS, info, same=lambda it: it.get("data"))
        flow = rights.flow_schema(tenant, user=user, join=join)
        await self._writer.ensure(FLOW_SCHEMAS, flow, same=rights.flow_shown)

    def _join_user(self, tenant: Tenant) -> str:
        key = tenant.status.key
        if tenant.spec.credential == "Token":
            return names.account_user(names.tenant_namespace(tenant.consumer_id), names.join_account(key))
        return names.join_user(tenant.consumer_id, key)

    async def _admit(self, tenant: Tenant, csr: Csr) -> Result:
        """The first credential, in the manifest for the consumer; made anew when its time has come."""
        status = tenant.status
        due = self._due(tenant)
        problem = ""
        if due <= 0:
            try:
                issued = await self._issue(tenant, csr)
            except PendingError as error:
                problem = str(error)
            else:
                text = manifest.identity(
                    tenant, self._settings, certificate=issued.certificate, sealed_token=issued.sealed_token
                )
                renew = requests.renewal(self._now(), issued.expires)
                due = (renew - self._now()).total_seconds()
                after = requests.timestamp(renew)
                status = msgspec.structs.replace(status, identity=text, expires=issued.expires, renew_after=after)
        if problem and not status.identity:
            await self._say(tenant, status, Said(False, "SignerPending", problem))
            return Result(requeue_after=WAIT_SECONDS)
        said = Said(True, tenant.spec.state, "the consumer is let in: its manifest is in status.identity")
        if problem:
            said = Said(True, "SignerPending", f"{problem}; what was issued before is good until {status.expires}")
        await self._say(tenant, status, said)
        wait = WAIT_SECONDS * 5 if problem else min(VERIFY_SECONDS, max(due, WAIT_SECONDS))
        return Result(requeue_after=wait)

    async def _issue(self, tenant: Tenant, csr: Csr) -> Credential:
        lifetime = self._settings.join_lifetime
        if tenant.spec.credential == "Token":
            account = names.join_account(tenant.status.key)
            await self._issuer.ensure_account(
                tenant, names.account(names.incarnation(tenant.metadata.uid, tenant.status.epoch))
            )
            return await self._issuer.token(tenant, csr, account=account, lifetime=lifetime)
        return await self._issuer.certificate(tenant, csr, user=self._join_user(tenant), lifetime=lifetime)

    def _due(self, tenant: Tenant) -> float:
        """Seconds until the manifest has to be made; what it says of address and authority may have changed."""
        status, settings = tenant.status, self._settings
        if not status.identity or not manifest.agrees(status.identity, tenant, settings):
            return 0.0
        renew = requests.parse_time(status.renew_after, field="status.renewAfter")
        return (renew - self._now()).total_seconds()

    # -- the end

    async def _drain(self, tenant: Tenant) -> Result:
        left = await self._removal.drain(tenant)
        status = msgspec.structs.replace(tenant.status, identity="", expires="", renew_after="")
        said = Said(False, "Drained", "rights and pods are gone") if not left else Said(False, "Draining", left)
        await self._say(tenant, status, said)
        return Result(requeue_after=VERIFY_SECONDS if not left else WAIT_SECONDS)

    async def _remove(self, tenant: Tenant) -> Result | None:
        if names.FINALIZER not in tenant.metadata.finalizers:
            return None
        left = await self._removal.remove(tenant)
        if left:
            await self._say(tenant, tenant.status, Said(False, "Removing", left))
            return Result(requeue_after=WAIT_SECONDS)
        await self._in_use.release(tenant.metadata)
        await self._own.set_finalizers(tenant, tuple(f for f in tenant.metadata.finalizers if f != names.FINALIZER))
        log.info("tenant removed", tenant=tenant.consumer_id)
        return None

    # -- requests

    async def _record(self, tenant: Tenant, status: TenantStatus) -> Tenant:
        """Write what is to be remembered; 409 if somebody was faster, and then all is looked at again."""
        return tenant if status == tenant.status else await self._write(tenant, status)

    async def _say(self, tenant: Tenant, status: TenantStatus, said: Said) -> None:
        """Write the status if it says something new."""
        made = Condition(
            type=_READY,
            status="True" if said.ready else "False",
            reason=said.reason,
            message=said.message,
            observed_generation=tenant.metadata.generation,
        )
        wanted = msgspec.structs.replace(
            status,
            observed_generation=tenant.metadata.generation,
            conditions=with_condition(status.conditions, made, now=requests.timestamp(self._now())),
        )
        if wanted == tenant.status:
            return
        before = condition(tenant.status.conditions, _READY)
        if before is None or (before.reason, before.message) != (said.reason, said.message):
            log.info("tenant", tenant=tenant.consumer_id, ready=said.ready, reason=said.reason, message=said.message)
            self._event(tenant, said.reason, said.message, warning=not said.ready)
        await self._write(tenant, wanted)

    async def _write(self, tenant: Tenant, status: TenantStatus) -> Tenant:
        """Write the status, if the Tenant is still as it was seen."""
        return await self._own.write(tenant, status, unchanged=True)

    def _event(self, tenant: Tenant, reason: str, message: str, *, warning: bool = False) -> None:
        meta = tenant.metadata
        ref = ObjectReference(kind=TENANTS.kind, api_version=TENANTS.api_version, name=meta.name, uid=meta.uid)
        self._recorder.event(ref, type="Warning" if warning else "Normal", reason=reason, message=message)
