"""This cluster's private keys: one for each peering, made here, kept in a Secret.

A key leaves its Secret for the gateways alone, over a connection that both ends have proved themselves on. It is never
logged, shown or exported; what is shown is the public half.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import structlog
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from api.networking.peering import NetworkPeering
from kube.client import Client
from kube.objects import Secret
from kube.resources import SECRETS
from netfabric.plan.model import Problem

log = structlog.get_logger(__name__)

ENTRY = "privateKey"
READ_SECONDS = 30.0
"""So often a Secret is read again: a key that its owner replaced is in use by then."""
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class KeyPair:
    """32 bytes each (RFC 7748)."""

    public: bytes
    private: bytes = field(repr=False)

    @property
    def public_text(self) -> str:
        """As WireGuard's tools write it."""
        return base64.b64encode(self.public).decode()

    def tunnel(self, number: int) -> KeyPair:
        """The pair of one of several tunnels, made from this one, which is that of the first (number 0).

        Tunnels with one key would take handshakes that were recorded from one another (WireGuard's paper, 5.1: each
        remembers the latest it took).
        """
        if not number:
            return self
        derive = HKDF(hashes.SHA256(), _KEY_BYTES, salt=None, info=f"isthmus tunnel {number}".encode())
        return pair(derive.derive(self.private))


def pair(private: bytes) -> KeyPair:
    """The pair of a private key. Raises ValueError."""
    if len(private) != _KEY_BYTES:
        raise ValueError("a key has 32 bytes")
    # As WireGuard has it in the end (RFC 7748, 5): an agent that finds another one there would set it again and again.
    clamped = bytes((private[0] & 248, *private[1:31], private[31] & 127 | 64))
    public = X25519PrivateKey.from_private_bytes(clamped).public_key()
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return KeyPair(raw, clamped)


def generate() -> KeyPair:
    """A new one."""
    made = X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
    )
    return pair(made)


def public_key(text: str) -> bytes | None:
    """A public key from base64; None if it is none."""
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return found if len(found) == _KEY_BYTES else None


def secret_name(peering: NetworkPeering) -> str:
    """The Secret that a peering's key is in."""
    given = peering.spec.key_secret
    return given.name if given is not None else f"isthmus-network-{peering.metadata.name}"


def _place(peering: NetworkPeering) -> tuple[str, str]:
    return peering.metadata.uid, secret_name(peering)


def _of_another(secret: Secret, peering: NetworkPeering) -> bool:
    """Whether a Secret was made for a peering that is gone: the garbage collector would take it, whoever uses it."""
    owners = secret.metadata.owner_references
    return any(owner.kind == "NetworkPeering" and owner.uid != peering.metadata.uid for owner in owners)


class Keys:
    """Reads Secrets by name, now and then, and makes those that the user has not named."""

    def __init__(
        self,
        client: Client,
        *,
        namespace: str,
        check: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._check = check
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[float, KeyPair]] = {}
        """By the peering's UID and the Secret's name: another peering of the same name has another key."""

    def forget(self, kept: Iterable[NetworkPeering]) -> None:
        """Keep in memory only the keys of these."""
        places = {_place(one) for one in kept}
        self._known = {place: known for place, known in self._known.items() if place in places}

    async def of(self, peering: NetworkPeering) -> KeyPair | Problem:
        """The pair of a peering, or why there is none. Raises `KubeError`."""
        name = secret_name(peering)
        known = self._known.get(_place(peering))
        if known is not None and self._clock() - known[0] < READ_SECONDS:
            return known[1]
        secret = await self._read(name)
        if secret is None:
            if peering.spec.key_secret is not None:
                told = f"spec.keySecret: make Secret {self._namespace}/{name} with the entry {ENTRY}, or leave it out"
                return Problem("KeyMissing", told)
            found = await self._make(name, peering)
        elif peering.spec.key_secret is None and _of_another(secret, peering):
            found = await self._make(name, peering, instead=secret.metadata.resource_version)
        else:
            read = self._decode(secret)
            if isinstance(read, Problem):
                return read
            found = read
        self._known[_place(peering)] = (self._clock(), found)
        return found

    def _decode(self, secret: Secret) -> KeyPair | Problem:
        where = f"Secret {self._namespace}/{secret.metadata.name}"
        if ENTRY not in secret.data:
            return Problem("KeyMissing", f"{where} has no entry {ENTRY}: put a key of `wg genkey` there")
        try:
            # Text in the Secret, as `wg genkey` writes it, which the API shows in base64 once more.
            text = base64.b64decode(secret.data[ENTRY], validate=True).strip()
            return pair(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError):
            pass  # what could not be read is a key, and may not be told
        return Problem("KeyInvalid", f"{where}: entry {ENTRY} is no WireGuard key; `wg genkey` makes one")

    async def _read(self, name: str) -> Secret | None:
        return await self._client.find(SECRETS, namespace=self._namespace, name=name, decode=Secret)

    async def _make(self, name: str, peering: NetworkPeering, *, instead: str = "") -> KeyPair:
        """Create, or replace the one of resourceVersion `instead`: a conflict raises, and all is read the next time."""
        made = generate()
        owner = {
            "apiVersion": "networking.isthmus.dev/v1alpha1",
            "kind": "NetworkPeering",
            "name": peering.metadata.name,
            "uid": peering.metadata.uid,
        }
        metadata: dict[str, Any] = {
            "name": name,
            "namespace": self._namespace,
            "labels": {"app.kubernetes.io/managed-by": "isthmus", "app.kubernetes.io/component": "fabric"},
            "ownerReferences": [owner],
        }
        text = base64.b64encode(base64.b64encode(made.private)).decode()
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": {ENTRY: text}}
        self._check()
        if instead:
            metadata["resourceVersion"] = instead
            await self._client.replace(SECRETS, body, namespace=self._namespace, name=name)
        else:
            await self._client.create(SECRETS, body, namespace=self._namespace)
        log.info("key of a network made", peering=peering.metadata.name, secret=f"{self._namespace}/{name}")
        return made
