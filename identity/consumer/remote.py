"""The consumer at the provider's API: who we are there now, and our next credential.

Nothing that the provider says is believed further than it has to be: names are checked before they are used.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import msgspec

from api.authentication.credential_request import CredentialRequest, PeeringRequest
from api.authentication.definitions import CREDENTIAL_REQUESTS
from api.meta import condition
from identity import names, requests
from identity.consumer import access
from identity.consumer.access import Place, Proof
from identity.keys import PrivateKey
from identity.problems import PendingError, RefusedError
from identity.sealing import unseal
from kube.client import Client
from kube.config import Credentials
from kube.errors import ApiError
from kube.objects import ConfigMap
from kube.resources import CONFIG_MAPS

Json = dict[str, Any]

_LIFE: Final = re.compile(r"[0-9a-f]{16}")
_WAITING: Final = ("SignerPending", "NotLetIn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """What the provider tells us of ourselves."""

    user: str
    state: str
    credential: str
    entry: dict[str, str]
    """`certificate` or `sealedToken` to join with from now on; empty if the provider has none, or shows none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A new credential, and how long it is good from when it was issued: the two clusters' clocks may differ."""

    proof: Proof
    life: timedelta


@asynccontextmanager
async def connect(place: Place, proof: Proof) -> AsyncIterator[Client]:
    """A client of the provider. Raises `kube.errors.ConfigError` for what cannot be used."""
    made = access.material(place, proof)
    async with Client.connect(Credentials(lambda: made), name="provider") as client:
        yield client


class Remote:
    """Our own namespace at the provider."""

    def __init__(self, client: Client, *, namespace: str, consumer_id: str) -> None:
        self._client = client
        self._namespace = namespace
        self._consumer_id = consumer_id

    async def info(self) -> Info:
        """Who we are now. Raises `RefusedError` and `KubeError`."""
        found = await self._client.get(CONFIG_MAPS, name=names.INFO, namespace=self._namespace, decode=ConfigMap)
        data = found.data
        user = data.get("user", "")
        prefixes = (f"{names.USER_PREFIX}{self._consumer_id}:", f"system:serviceaccount:{self._namespace}:tenant-")
        if not any(user.startswith(prefix) and _LIFE.fullmatch(user[len(prefix) :]) for prefix in prefixes):
            raise RefusedError("BadProvider", f"the provider calls us {user[:80]!r}, which is no name for a consumer")
        entry = {kind: data[kind] for kind in ("certificate", "sealedToken") if data.get(kind)}
        return Info(user=user, state=data.get("state", ""), credential=data.get("credential", ""), entry=entry)

    async def ask(self, user: str, *, key: PrivateKey, pending: PrivateKey) -> Issued:
        """A credential as `user` for the pending key. Raises `PendingError`, `RefusedError` and `KubeError`."""
        name = _name(user, pending)
        asked = await self._request(name, user, key=key, pending=pending)
        said = condition(asked.status.conditions, "Issued")
        if said is None or said.reason in _WAITING:
            raise PendingError(said.message if said is not None else "the provider has not answered our request yet")
        if said.status != "True":
            await self._discard(name)
            raise RefusedError(said.reason, f"the provider says: {said.message}")
        proof = _proof(asked, user, pending)
        ends = requests.parse_time(asked.status.expires, field="status.expires")
        life = ends - requests.parse_time(said.last_transition_time, field="status.conditions.lastTransitionTime")
        await self._discard(name)
        if life <= timedelta():
            raise RefusedError("BadProvider", f"the provider gave a credential that was over at {asked.status.expires}")
        return Issued(proof=proof, life=life)

    async def redeem(self, asking: PeeringRequest, *, key: PrivateKey) -> str:
        """The manifest that an invitation comes to. Raises `PendingError`, `RefusedError` and `KubeError`."""
        name = f"invitation-{key.digest()[:20]}"
        asked = await self._find(name)
        if asked is None:
            body = {
                "apiVersion": CREDENTIAL_REQUESTS.api_version,
                "kind": CREDENTIAL_REQUESTS.kind,
                "metadata": {"name": name, "namespace": self._namespace},
                "spec": {"peering": msgspec.to_builtins(asking)},
            }
            await self._client.create(CREDENTIAL_REQUESTS, body, namespace=self._namespace)
            raise PendingError("the provider has not answered our invitation yet")
        said = condition(asked.status.conditions, "Issued")
        if said is None or said.reason in _WAITING:
            raise PendingError(said.message if said is not None else "the provider has not answered our invitation yet")
        if said.status != "True":
            await self._discard(name)
            raise RefusedError(said.reason, f"the provider says: {said.message}")
        return asked.status.identity

    async def redeemed(self, *, key: PrivateKey) -> None:
        """The answer was taken: the provider shuts the door."""
        await self._discard(f"invitation-{key.digest()[:20]}")

    async def _find(self, name: str) -> CredentialRequest | None:
        return await self._client.find(
            CREDENTIAL_REQUESTS, name=name, namespace=self._namespace, decode=CredentialRequest
        )

    async def _request(self, name: str, user: str, *, key: PrivateKey, pending: PrivateKey) -> CredentialRequest:
        found = await self._find(name)
        if found is not None:
            return found
        csr = requests.make_csr(pending, user)
        body = {
            "apiVersion": CREDENTIAL_REQUESTS.api_version,
            "kind": CREDENTIAL_REQUESTS.kind,
            "metadata": {"name": name, "namespace": self._namespace},
            "spec": {"certificateRequest": csr, "signature": requests.sign_credential(key, user=user, csr=csr)},
        }
        return await self._client.create(CREDENTIAL_REQUESTS, body, namespace=self._namespace, decode=CredentialRequest)

    async def _discard(self, name: str) -> None:
        try:
            await self._client.delete(CREDENTIAL_REQUESTS, name=name, namespace=self._namespace)
        except ApiError as error:
            if not (error.not_found or error.forbidden):
                raise


def _name(user: str, pending: PrivateKey) -> str:
    """The same for the same key and user, so that asking twice finds the first request."""
    return "credential-" + hashlib.sha256(f"{user} {pending.digest()}".encode()).hexdigest()[:20]


def _proof(asked: CredentialRequest, user: str, pending: PrivateKey) -> Proof:
    status = asked.status
    if status.sealed_token:
        return Proof(user=user, token=unseal(status.sealed_token, pending, purpose=user))
    access.check_certificate(status.certificate, pending, user=user)
    return Proof(user=user, certificate=status.certificate, key=pending.pem().decode())
