"""Our keys for providers, and the kubeconfigs made with them: two Secrets for each Identity, in one namespace.

The key that we are known by (`identity.key`) is read by the manager only. The kubeconfig, which virtual kubelets mount,
has a key of its own that is another one after each renewal. When an Identity is deleted its kubeconfig goes, and its
key is retired: whoever deletes and applies again to mend something finds the provider's answer still good.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from api.authentication.common import GROUP
from identity import names
from identity.consumer import access
from identity.consumer.access import Place, Proof
from identity.keys import PrivateKey
from kube.client import Client
from kube.errors import ApiError
from kube.objects import Metadata, Secret, WithMetadata
from kube.resources import SECRETS

Json = dict[str, Any]

KEY: Final = "identity.key"
PENDING: Final = "pending.key"
ENTRY: Final = "joining.json"
KUBECONFIG: Final = "kubeconfig"
RENEW_AFTER: Final = f"{GROUP}/renew-after"
EXPIRES: Final = f"{GROUP}/expires"
RENEWED: Final = f"{GROUP}/renewed"
KEPT_UNTIL: Final = f"{GROUP}/kept-until"
"""On the key of an Identity that is gone: when it goes too (RFC 3339)."""
IDENTITY_LABEL: Final = f"{GROUP}/identity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A kubeconfig that is there. Times are RFC 3339."""

    place: Place
    proof: Proof
    renew_after: str
    expires: str
    renewed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """A key whose Identity is gone, kept until a time (RFC 3339)."""

    identity: str
    until: str
    metadata: Metadata


class Keyring:
    """Reads and writes the Secrets of Identities."""

    def __init__(self, client: Client, *, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    async def key(self, identity: str) -> PrivateKey:
        """The key that we are known by at this provider; made if there is none."""
        return await self._key(identity, KEY)

    async def pending(self, identity: str) -> PrivateKey:
        """The key of the credential that is being asked for; it outlives us, so that a restart goes on with it."""
        return await self._key(identity, PENDING)

    async def forget_pending(self, identity: str) -> None:
        """The request under way came to its end: the next one gets a new key."""
        await self._write(names.key_secret(identity), identity, {PENDING: None})

    async def entry(self, identity: str) -> dict[str, str]:
        """The credential to join with that the provider made anew; empty if there is none."""
        secret = await self._read(names.key_secret(identity))
        try:
            text = base64.b64decode((secret.data if secret else {}).get(ENTRY, ""), validate=True)
            return msgspec.json.decode(text, type=dict[str, str]) if text else {}
        except (binascii.Error, msgspec.DecodeError):
            return {}

    async def keep_entry(self, identity: str, entry: dict[str, str]) -> None:
        """Put that in the old one's place."""
        await self._write(names.key_secret(identity), identity, {ENTRY: msgspec.json.encode(entry)})

    async def held(self, identity: str) -> Held | None:
        """The kubeconfig that is in use; None if there is none that we made."""
        secret = await self._read(names.kubeconfig_secret(identity))
        if secret is None:
            return None
        try:
            found = access.read(base64.b64decode(secret.data.get(KUBECONFIG, ""), validate=True))
        except binascii.Error:
            return None
        marks = secret.metadata.annotations
        if found is None or not {RENEW_AFTER, EXPIRES, RENEWED} <= marks.keys():
            return None
        place, proof = found
        return Held(
            place=place, proof=proof, renew_after=marks[RENEW_AFTER], expires=marks[EXPIRES], renewed=marks[RENEWED]
        )

    async def hold(self, identity: str, held: Held) -> None:
        """Put a kubeconfig in the old one's place."""
        marks: dict[str, str | None] = {RENEW_AFTER: held.renew_after, EXPIRES: held.expires, RENEWED: held.renewed}
        text = access.kubeconfig(held.place, held.proof)
        await self._write(names.kubeconfig_secret(identity), identity, {KUBECONFIG: text}, annotations=marks)

    async def given(self, name: str, key: str) -> bytes | None:
        """What somebody put into a Secret for us; None if it is not there."""
        secret = await self._read(name)
        if secret is None or key not in secret.data:
            return None
        return base64.b64decode(secret.data[key])

    async def remove(self, identity: str) -> None:
        """Remove both Secrets."""
        await self._delete(names.kubeconfig_secret(identity))
        await self._delete(names.key_secret(identity))

    async def retire(self, identity: str, *, until: str) -> None:
        """Remove the kubeconfig, and keep the key until then (RFC 3339)."""
        await self._delete(names.kubeconfig_secret(identity))
        if await self._read(names.key_secret(identity)) is not None:
            await self._write(names.key_secret(identity), identity, {}, annotations={KEPT_UNTIL: until})

    async def resume(self, identity: str) -> None:
        """Take a retired key back into use, also one whose time is over and that is still there."""
        secret = await self._read(names.key_secret(identity))
        if secret is not None and KEPT_UNTIL in secret.metadata.annotations:
            await self._write(names.key_secret(identity), identity, {}, annotations={KEPT_UNTIL: None})

    async def retired(self) -> list[Retired]:
        """The keys whose Identities are gone."""
        listing = await self._client.list(
            SECRETS, namespace=self._namespace, label_selector=IDENTITY_LABEL, decode=WithMetadata
        )
        return [
            Retired(identity=meta.labels[IDENTITY_LABEL], until=meta.annotations[KEPT_UNTIL], metadata=meta)
            for meta in (item.metadata for item in listing.items)
            if KEPT_UNTIL in meta.annotations
        ]

    async def bury(self, retired: Retired) -> None:
        """Remove a retired key in the very state that was seen: it may have been taken back into use."""
        meta = retired.metadata
        await self._delete(meta.name, uid=meta.uid, resource_version=meta.resource_version)

    async def _delete(self, name: str, *, uid: str | None = None, resource_version: str | None = None) -> None:
        try:
            await self._client.delete(
                SECRETS, name=name, namespace=self._namespace, uid=uid, resource_version=resource_version
            )
        except ApiError as error:
            if not (error.not_found or (error.status == 409 and uid is not None)):
                raise

    async def _key(self, identity: str, entry: str) -> PrivateKey:
        secret = await self._read(names.key_secret(identity))
        if secret is not None and entry in secret.data:
            try:
                return PrivateKey.load(base64.b64decode(secret.data[entry]))
            except ValueError:
                pass  # not what we wrote: begin again, and ask the provider anew
        made = PrivateKey.generate()
        await self._write(names.key_secret(identity), identity, {entry: made.pem()})
        return made

    async def _read(self, name: str) -> Secret | None:
        return await self._client.find(SECRETS, name=name, namespace=self._namespace, decode=Secret)

    async def _write(
        self,
        name: str,
        identity: str,
        data: dict[str, bytes | None],
        *,
        annotations: dict[str, str | None] | None = None,
    ) -> None:
        entries = {key: None if value is None else base64.b64encode(value).decode() for key, value in data.items()}
        body: Json = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": self._namespace,
                "labels": {names.MANAGED_BY_LABEL: names.MANAGED_BY, IDENTITY_LABEL: identity},
                "annotations": annotations or {},
            },
            "data": entries,
        }
        try:
            await self._client.patch(SECRETS, body, name=name, namespace=self._namespace)
        except ApiError as error:
            if not error.not_found:
                raise
            body["data"] = {key: value for key, value in entries.items() if value is not None}
            await self._client.create(SECRETS, body, namespace=self._namespace)
