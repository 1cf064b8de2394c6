"""Credentials of this cluster for its tenants: certificates by its own signer, or tokens of service accounts.

The signer is kubernetes.io/kube-apiserver-client (k8s.io/kubernetes/pkg/controller/certificates/signer). The request is
named after its content, so that asking again after a restart finds the first one. A signer that does not answer leaves
everything as it is: `PendingError`, and the asker keeps what it has (fault F25).
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import msgspec
import structlog
from cryptography import x509
from cryptography.x509.oid import NameOID

from api.authentication.tenant import Tenant
from identity import keys, names, sealing
from identity.problems import PendingError, RefusedError
from identity.provider import rights
from identity.requests import Csr, timestamp
from kube.client import Client
from kube.errors import ApiError
from kube.objects import Metadata
from kube.resources import CSRS, SERVICE_ACCOUNTS

log = structlog.get_logger(__name__)

Json = dict[str, Any]

SIGNER: Final = "kubernetes.io/kube-apiserver-client"
SHORTEST: Final = timedelta(minutes=10)
"""What signer and token issuer grant at least."""


class _CsrCondition(msgspec.Struct, frozen=True):
    type: str = ""
    message: str = ""


class _CsrStatus(msgspec.Struct, frozen=True):
    conditions: tuple[_CsrCondition, ...] = ()
    certificate: str = ""


class _CsrObject(msgspec.Struct, frozen=True):
    metadata: Metadata
    status: _CsrStatus = _CsrStatus()


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What was issued: one of the two, and when it ends (RFC 3339)."""

    certificate: str = ""
    sealed_token: str = ""
    expires: str


class Issuer:
    """Issues for tenants. `check_leading` raises if this process may not write (any more)."""

    def __init__(self, client: Client, *, check_leading: Callable[[], None]) -> None:
        self._client = client
        self._check_leading = check_leading

    async def certificate(self, tenant: Tenant, csr: Csr, *, user: str, lifetime: timedelta) -> Credential:
        """A certificate for a request that was checked. Raises `PendingError`, `RefusedError` and `ApiError`."""
        name = f"isthmus-tenant-{csr.digest[:40]}"
        found = await self._request(name, tenant, csr, lifetime=lifetime)
        for condition in found.status.conditions:
            if condition.type in ("Denied", "Failed"):
                await self._discard(name)
                text = f"request {name} of signer {SIGNER}: {condition.type}: {condition.message}"
                raise RefusedError("SignerRefused", text)
        if not found.status.certificate:
            if not found.status.conditions:
                await self._approve(name, tenant)
            raise PendingError(f"the signer {SIGNER} has not answered request {name} yet")
        chain = base64.b64decode(found.status.certificate).decode()
        leaf = _check(chain, csr, user=user)
        await self._discard(name)
        log.info("certificate issued", tenant=tenant.consumer_id, user=user, ends=leaf.not_valid_after_utc.isoformat())
        return Credential(certificate=chain, expires=timestamp(leaf.not_valid_after_utc))

    async def token(self, tenant: Tenant, csr: Csr, *, account: str, lifetime: timedelta) -> Credential:
        """A token, sealed for the key of a request that was checked. Raises `ApiError`."""
        namespace = names.tenant_namespace(tenant.consumer_id)
        await self.ensure_account(tenant, account)
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": _seconds(lifetime)},
        }
        self._check_leading()
        answer: Json = await self._client.create(
            SERVICE_ACCOUNTS, body, name=account, namespace=namespace, subresource="token"
        )
        status = answer["status"]
        user = names.account_user(namespace, account)
        log.info("token issued", tenant=tenant.consumer_id, user=user, ends=status["expirationTimestamp"])
        sealed = sealing.seal(status["token"], csr.key, purpose=user)
        return Credential(sealed_token=sealed, expires=status["expirationTimestamp"])

    async def ensure_account(self, tenant: Tenant, account: str) -> None:
        """A service account in the tenant's namespace."""
        self._check_leading()
        namespace = names.tenant_namespace(tenant.consumer_id)
        try:
            await self._client.create(SERVICE_ACCOUNTS, rights.service_account(tenant, account), namespace=namespace)
        except ApiError as error:
            if not error.already_exists:
                raise

    async def _request(self, name: str, tenant: Tenant, csr: Csr, *, lifetime: timedelta) -> _CsrObject:
        try:
            return await self._client.get(CSRS, name=name, decode=_CsrObject)
        except ApiError as error:
            if not error.not_found:
                raise
        body = {
            "apiVersion": CSRS.api_version,
            "kind": CSRS.kind,
            "metadata": {"name": name, "labels": names.labels(tenant.consumer_id)},
            "spec": {
                "request": base64.b64encode(csr.pem).decode(),
                "signerName": SIGNER,
                "usages": ["digital signature", "client auth"],
                "expirationSeconds": _seconds(lifetime),
            },
        }
        self._check_leading()
        return await self._client.create(CSRS, body, decode=_CsrObject)

    async def _approve(self, name: str, tenant: Tenant) -> None:
        condition = {
            "type": "Approved",
            "status": "True",
            "reason": "IsthmusTenant",
            "message": f"asked for by the key of tenant {tenant.consumer_id}, and checked",
        }
        current: Json = await self._client.get(CSRS, name=name)
        current.setdefault("status", {})["conditions"] = [condition]
        self._check_leading()
        await self._client.replace(CSRS, current, name=name, subresource="approval")

    async def _discard(self, name: str) -> None:
        try:
            await self._client.delete(CSRS, name=name)
        except ApiError as error:
            if not error.not_found:
                raise


def _seconds(lifetime: timedelta) -> int:
    return int(max(lifetime, SHORTEST).total_seconds())


def _check(chain: str, csr: Csr, *, user: str) -> x509.Certificate:
    """The leaf, if it is what was asked for: a signer that gives more is not to be trusted. Raises `RefusedError`."""
    try:
        leaf = x509.load_pem_x509_certificates(chain.encode())[0]
        key = keys.accepted(leaf.public_key(), field="the certificate")
    except ValueError:
        raise RefusedError("SignerRefused", "what the signer issued is no certificate in PEM") from None
    subject = [(attribute.oid, str(attribute.value)) for attribute in leaf.subject]
    if keys.digest(key) != keys.digest(csr.key) or subject != [(NameOID.COMMON_NAME, user)]:
        raise RefusedError("SignerRefused", "the signer issued a certificate for another key or name")
    return leaf
