"""Invitations: a door that is open for one consumer, for a short time, and shut behind it.

A service account in the tenant's namespace may ask and read the answer, and nothing else. It is made when a Tenant
with an invitation has nobody yet; with it go all of its tokens: when the answer was taken, or when the time is over.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from api.authentication.credential_request import CredentialRequest
from api.authentication.tenant import Tenant
from identity import names, requests
from identity.provider import rights
from identity.provider.issuing import Issuer
from identity.provider.settings import ProviderSettings
from identity.provider.writing import Writer
from kube.resources import ROLE_BINDINGS, SERVICE_ACCOUNTS, Resource
from kube.store import Store

FLOW_SCHEMAS = Resource("flowcontrol.apiserver.k8s.io", "v1", "flowschemas", "FlowSchema", namespaced=False)


class Inviting:
    """Opens and shuts the doors of Tenants."""

    def __init__(
        self,
        writer: Writer,
        issuer: Issuer,
        settings: ProviderSettings,
        *,
        asked: Store[CredentialRequest],
        now: Callable[[], datetime],
    ) -> None:
        self._writer = writer
        self._issuer = issuer
        self._settings = settings
        self._asked = asked
        self._now = now

    def left(self, tenant: Tenant) -> float:
        """Seconds for which the invitation is good; none without one. Raises `RefusedError`."""
        if tenant.spec.invitation is None:
            return 0.0
        expires = requests.parse_time(tenant.spec.invitation.expires, field="spec.invitation.expires")
        return (expires - self._now()).total_seconds()

    async def open(self, tenant: Tenant) -> str:
        """Have the service account and its right; its name."""
        account = names.invited_account(names.incarnation(tenant.metadata.uid, tenant.status.epoch))
        await self._issuer.ensure_account(tenant, account)
        user = names.account_user(names.tenant_namespace(tenant.consumer_id), account)
        await self._writer.bind(rights.invited_binding(tenant, user))
        flow = rights.flow_schema(tenant, user=user, join=user)
        await self._writer.ensure(FLOW_SCHEMAS, flow, same=rights.flow_shown)
        return account

    async def close(self, tenant: Tenant) -> bool:
        """Shut the door, unless the answer is still to be taken; whether it is shut."""
        namespace = names.tenant_namespace(tenant.consumer_id)
        waits = any(one.spec.peering is not None for one in self._asked.by_index("namespace", namespace))
        if waits and self.left(tenant) > 0:
            return False
        await self._writer.delete(ROLE_BINDINGS, names.INVITED_BINDING, namespace)
        account = names.invited_account(names.incarnation(tenant.metadata.uid, tenant.status.epoch))
        await self._writer.delete(SERVICE_ACCOUNTS, account, namespace)
        return True
