"""The credential that lets us in: as the provider's manifest gave it, and as the provider made it anew since.

What the Identity holds ends with its time, 30 days as a rule, and nobody edits a file for that. While we are let in the
provider shows the next one, where it says who we are; we keep it beside our key, and come back with it if our working
credential was cut meanwhile or ended while we were away.
"""

from __future__ import annotations

import structlog

from api.authentication.identity import Identity
from identity import names
from identity.consumer import access
from identity.consumer.access import Proof
from identity.consumer.keyring import Keyring
from identity.keys import PrivateKey
from identity.problems import RefusedError
from identity.sealing import unseal

log = structlog.get_logger(__name__)

Entry = dict[str, str]
"""`certificate` or `sealedToken`, named as in the Identity's spec."""


class Joining:
    """For the Identities of one consumer."""

    def __init__(self, keyring: Keyring, *, consumer_id: str) -> None:
        self._keyring = keyring
        self._consumer_id = consumer_id

    async def kept(self, identity: Identity, key: PrivateKey) -> Proof | None:
        """What the provider made anew, if it did."""
        try:
            return self._read(identity, key, await self._keyring.entry(identity.metadata.name))
        except RefusedError as error:  # of another key, which was replaced
            log.info("joining credential not used", identity=identity.metadata.name, reason=error.reason)
            return None

    def given(self, identity: Identity, key: PrivateKey) -> Proof:
        """What the Identity holds. Raises `RefusedError`."""
        proof = self._read(identity, key, _given(identity))
        if proof is None:
            text = "the provider's manifest holds no credential: apply our Tenant (status.tenant) there"
            raise RefusedError("AwaitingProvider", text)
        return proof

    async def keep(self, identity: Identity, key: PrivateKey, entry: Entry) -> None:
        """Keep what the provider made anew, if it is of use: it is not believed further than that."""
        name = identity.metadata.name
        if not entry or entry in (_given(identity), await self._keyring.entry(name)):
            return
        try:
            self._read(identity, key, entry)
        except RefusedError as error:
            log.warning("joining credential refused", identity=name, reason=error.reason, message=str(error))
            return
        await self._keyring.keep_entry(name, entry)
        log.info("joining credential renewed", identity=name)

    def _read(self, identity: Identity, key: PrivateKey, entry: Entry) -> Proof | None:
        """Raises `RefusedError` for what is of no use."""
        if token := entry.get("sealedToken"):
            space = identity.spec.namespace or names.tenant_namespace(self._consumer_id)
            user = names.account_user(space, names.join_account(key.digest()))
            return Proof(user=user, token=unseal(token, key, purpose=user))
        if certificate := entry.get("certificate"):
            user = names.join_user(self._consumer_id, key.digest())
            access.check_certificate(certificate, key, user=user)
            return Proof(user=user, certificate=certificate, key=key.pem().decode())
        return None


def _given(identity: Identity) -> Entry:
    spec = identity.spec
    found = {"certificate": spec.certificate or "", "sealedToken": spec.sealed_token or ""}
    return {kind: value for kind, value in found.items() if value}
