"""Keeps the fabric's authority and certificates in Secrets. The leader's.

The authority and what the controller shows are in the manager's namespace, out of reach of agents; what agents of one
role mount is in theirs.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from kube.client import Client
from kube.objects import Secret
from kube.pki import Pair
from kube.resources import SECRETS
from netfabric.controller import certificates
from netfabric.controller.certificates import CONTROLLER, NAMES, Authorities, Lifetimes, MaterialError

log = structlog.get_logger(__name__)

AUTHORITY = "isthmus-fabric-ca"
CHECK_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Credential:
    """What the controller shows to agents and trusts of them, PEM."""

    ca: bytes
    certificate: bytes
    key: bytes = field(repr=False)


def secret_name(role: str) -> str:
    """The Secret of a role's certificate; `controller` is one too."""
    return f"isthmus-fabric-{role}"


class Authority:
    """Run `ensure` now and then."""

    def __init__(
        self,
        client: Client,
        *,
        namespace: str,
        agents_namespace: str,
        check: Callable[[], None],
        lifetimes: Lifetimes | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._agents_namespace = agents_namespace
        self._check = check
        self._lifetimes = lifetimes or Lifetimes()
        self._now = now

    async def ensure(self) -> Credential:
        """Have all of it good, and return the controller's. Raises `KubeError`."""
        now = self._now()
        authorities = await self._authorities(now)
        signer = certificates.signer(authorities, now=now, lifetimes=self._lifetimes)
        made: dict[str, bytes] = {}
        for role, name in {**NAMES, "controller": CONTROLLER}.items():
            made = await self._certificate(role, name, signer, authorities)
        return Credential(made[certificates.CA], made[certificates.CERTIFICATE], made[certificates.KEY])

    async def _authorities(self, now: datetime) -> Authorities:
        secret = await self._read(self._namespace, AUTHORITY)
        known: Authorities = ()
        if secret is not None:
            try:
                known = certificates.decode_authorities(_data(secret))
            except MaterialError as error:
                log.error("the fabric's authority is not usable and is made anew", secret=AUTHORITY, error=str(error))
        wanted = certificates.advance(known, now=now, lifetimes=self._lifetimes)
        if wanted != known:
            await self._write(self._namespace, AUTHORITY, secret, certificates.encode_authorities(wanted))
            log.info("authority of the fabric made", ends=wanted[0].certificate.not_valid_after_utc.isoformat())
        return wanted

    async def _certificate(self, role: str, name: str, by: Pair, authorities: Authorities) -> dict[str, bytes]:
        namespace = self._agents_namespace if role in NAMES else self._namespace
        secret = await self._read(namespace, secret_name(role))
        held = _held(secret) if secret is not None else None
        now = self._now()
        if held is None or certificates.is_due(held, name=name, by=by, now=now):
            held = certificates.issue(by, name, now=now, lifetimes=self._lifetimes)
            log.info("certificate of the fabric made", role=role, ends=held.certificate.not_valid_after_utc.isoformat())
        wanted = certificates.encode(held, authorities)
        if secret is None or _data(secret) != wanted:
            await self._write(namespace, secret_name(role), secret, wanted)
        return wanted

    async def _read(self, namespace: str, name: str) -> Secret | None:
        return await self._client.find(SECRETS, namespace=namespace, name=name, decode=Secret)

    async def _write(self, namespace: str, name: str, kept: Secret | None, data: Mapping[str, bytes]) -> None:
        """Create or replace what was read; a conflict is raised and tried again: somebody else led for a moment."""
        labels = {"app.kubernetes.io/managed-by": "isthmus", "app.kubernetes.io/component": "fabric"}
        metadata = {"name": name, "namespace": namespace, "labels": labels}
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": encoded}
        self._check()
        if kept is None:
            await self._client.create(SECRETS, body, namespace=namespace)
            return
        body["type"] = kept.type
        body["metadata"] = {**metadata, "uid": kept.metadata.uid, "resourceVersion": kept.metadata.resource_version}
        await self._client.replace(SECRETS, body, namespace=namespace, name=name)


def _held(secret: Secret) -> Pair | None:
    try:
        return certificates.decode(_data(secret))
    except MaterialError as error:
        log.error("a certificate of the fabric is not usable", secret=secret.metadata.name, error=str(error))
        return None


def _data(secret: Secret) -> dict[str, bytes]:
    try:
        return {key: base64.b64decode(text) for key, text in secret.data.items()}
    except binascii.Error:
        return {}
