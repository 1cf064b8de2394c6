"""Whether a Tenant's request is let in, and what is remembered of it.

What was accepted is in the status before anything is done with it, so that a request is fresh once only and a key that
was replaced stays refused.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec
import structlog

from api.authentication.credential_request import PeeringRequest
from api.authentication.tenant import Tenant, TenantStatus
from api.meta import Condition, condition, with_condition
from identity import keys, names, requests
from identity.problems import RefusedError
from identity.provider.settings import ProviderSettings
from identity.requests import Csr, Party

log = structlog.get_logger(__name__)

DRAINED: Final = "Drained"
_REMEMBERED: Final = 32


class Acceptance:
    """Judges by what the Tenant's status says of the past. `tell` makes an event: of which Tenant, reason, message."""

    def __init__(
        self, settings: ProviderSettings, *, now: Callable[[], datetime], tell: Callable[[Tenant, str, str], None]
    ) -> None:
        self._settings = settings
        self._now = now
        self._tell = tell

    def accept(self, tenant: Tenant) -> tuple[Csr, TenantStatus]:
        """The certificate request, and the status with what is to be remembered of it. Raises `RefusedError`."""
        spec, status = _asking(tenant), tenant.status
        party = Party(consumer_id=tenant.consumer_id, cluster_id=spec.cluster_id)
        csr = requests.check_request(spec.request, party, public_key=spec.public_key)
        key = keys.digest(csr.key)
        if not self._is_known(tenant, key):
            if key in status.retired_keys:
                text = "spec.publicKey: this key was replaced by another one before; let the consumer make a new key"
                raise RefusedError("KeyRetired", text)
            requests.check_fresh(
                spec.request,
                now=self._now(),
                last=status.requested_at,
                nonces=status.nonces,
                lifetime=self._settings.request_lifetime,
            )
            status = _remember(status, tenant, key)
            log.info("request accepted", tenant=tenant.consumer_id, key=key[:16], cluster=spec.cluster_id)
            self._tell(tenant, "RequestAccepted", f"the consumer's key {key[:16]} is let in")
        return csr, self._lived(tenant, status)

    def _is_known(self, tenant: Tenant, key: str) -> bool:
        request, status = _asking(tenant).request, tenant.status
        return (key, request.issued_at, request.nonce) == (status.key, status.requested_at, *status.nonces[-1:])

    def _lived(self, tenant: Tenant, status: TenantStatus) -> TenantStatus:
        """The status with the epoch and user that count now: a drain ends the life of all that was issued."""
        was = condition(status.conditions, DRAINED)
        drained, was_drained = tenant.spec.state == "Drained", was is not None and was.status == "True"
        epoch = status.epoch + (1 if drained and not was_drained else 0)
        life = names.incarnation(tenant.metadata.uid, epoch)
        namespace = names.tenant_namespace(tenant.consumer_id)
        by_token = tenant.spec.credential == "Token"
        user = names.account_user(namespace, names.account(life)) if by_token else names.user(tenant.consumer_id, life)
        said = Condition(
            type=DRAINED,
            status="True" if drained else "False",
            reason=tenant.spec.state,
            message="its credentials are void, and it has no rights" if drained else "it has its rights",
            observed_generation=tenant.metadata.generation,
        )
        conditions = with_condition(status.conditions, said, now=requests.timestamp(self._now()))
        return msgspec.structs.replace(
            status, epoch=epoch, user="" if drained else user, namespace=namespace, conditions=conditions
        )


def _remember(status: TenantStatus, tenant: Tenant, key: str) -> TenantStatus:
    """The status with a request that is accepted now. A new key ends the life of what was issued to the old one."""
    request = _asking(tenant).request
    replaced = bool(status.key) and status.key != key
    return msgspec.structs.replace(
        status,
        key=key,
        nonces=(*status.nonces, request.nonce)[-_REMEMBERED:],
        requested_at=request.issued_at,
        retired_keys=(*status.retired_keys, status.key)[-_REMEMBERED:] if replaced else status.retired_keys,
        epoch=status.epoch + (1 if replaced else 0),
        identity="",
        expires="",
        renew_after="",
    )


def _asking(tenant: Tenant) -> PeeringRequest:
    """What the consumer said of itself. Raises `RefusedError`."""
    spec = tenant.spec
    if spec.cluster_id is None or spec.public_key is None or spec.request is None:
        raise RefusedError("BadRequest", "spec: clusterID, publicKey and request are needed, as the consumer made them")
    return PeeringRequest(cluster_id=spec.cluster_id, public_key=spec.public_key, request=spec.request)
