"""A virtual kubelet's client certificate: a node's identity, asked for and approved by the manager, kept in a Secret.

Contract of the signer kubernetes.io/kube-apiserver-client-kubelet (k8s.io/kubernetes/pkg/apis/certificates/helpers.go):
organisation exactly "system:nodes", common name "system:node:<name>", no alternative names, usages exactly
"digital signature" and "client auth" for a key that is not RSA. The key leaves this process only for the Secret.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from api.offloading.virtual_node import VirtualNode
from kube.client import Client
from kube.errors import ApiError
from kube.objects import Secret
from kube.resources import CSRS, SECRETS
from vk.node.objects import Csr
from vk.virtualnode.settings import VirtualNodeSettings, labels, object_name

log = structlog.get_logger(__name__)

Json = dict[str, Any]

SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
SHARE = 2 / 3
"""Part of a certificate's life after which it is renewed."""
_KEY = "kubeconfig"
_PENDING = "pending.key"


class IdentityPending(Exception):  # noqa: N818 - a state, not a failure
    """The certificate was asked for and is not there yet."""


class IdentityRefused(Exception):  # noqa: N818 - a signer's answer
    """The signer turned the request down, or gave what was not asked for."""


@dataclass(frozen=True, slots=True)
class Identity:
    """When a stored certificate has to be renewed and when it ends."""

    renew_at: datetime
    ends: datetime
    overdue: str = ""
    """Why it could not be renewed although it is time to; it is good until it ends."""


class Identities:
    """Keeps each VirtualNode's Secret with a good kubeconfig."""

    def __init__(
        self,
        client: Client,
        settings: VirtualNodeSettings,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        expiration_seconds: int | None = None,
        authority: Callable[[], bytes | None] = lambda: None,
    ) -> None:
        """`authority` gives the API server's CA as of now, which may have been exchanged; None for the settings'."""
        self._authority = authority
        self._client = client
        self._settings = settings
        self._now = now
        self._expiration = expiration_seconds

    async def ensure(self, node: VirtualNode) -> Identity:
        """A good certificate in the Secret, made or renewed if needed.

        Raises `IdentityPending` while the signer has not answered, `IdentityRefused`, and what the API server says.
        A certificate that is due stays in use until its successor is there.
        """
        secret = await self._read(node)
        if secret is not None and (moved := trusting(secret, ca=self._ca)) is not None:
            await self._write(node, {_KEY: moved}, pending=_PENDING in secret.data)
            log.info("virtual kubelet is told of a new authority", node=node.node)
        held = stored(secret, node=node.node, server=self._settings.server) if secret is not None else None
        if held is not None and self._now() < held.renew_at:
            return held
        try:
            return await self._renew(node, secret)
        except (IdentityPending, IdentityRefused) as problem:
            if held is not None and self._now() < held.ends:
                return Identity(renew_at=held.renew_at, ends=held.ends, overdue=str(problem))
            raise

    @property
    def _ca(self) -> bytes:
        return self._authority() or self._settings.ca

    async def _read(self, node: VirtualNode) -> Secret | None:
        return await self._client.find(
            SECRETS, name=object_name(node.metadata.name), namespace=self._settings.namespace, decode=Secret
        )

    async def _renew(self, node: VirtualNode, secret: Secret | None) -> Identity:
        """Ask with a key that outlives us, so that a restart finds the same request again."""
        key = _pending_key(secret)
        if key is None:
            key = ec.generate_private_key(ec.SECP256R1())
            await self._write(node, {_PENDING: _pem(key)})
        name = request_name(key)
        chain = await self._certificate(name, key, node.node)
        leaf = check(chain, key=key, node=node.node)
        text = kubeconfig(self._settings.server, ca=self._ca, node=node.node, chain=chain, key=_pem(key))
        await self._write(node, {_KEY: text})
        log.info("client certificate issued", node=node.node, ends=leaf.not_valid_after_utc.isoformat())
        return span(leaf)

    async def _certificate(self, name: str, key: ec.EllipticCurvePrivateKey, node: str) -> bytes:
        """The issued chain; the request is made and approved on the way. Raises `IdentityPending`."""
        try:
            csr = await self._client.get(CSRS, name=name, decode=Csr)
        except ApiError as error:
            if not error.not_found:
                raise
            csr = await self._client.create(CSRS, self._request(name, key, node), decode=Csr)
        refused = next((c for c in csr.status.conditions if c.type in ("Denied", "Failed")), None)
        if refused is not None:
            await self._discard(name)
            raise IdentityRefused(
                f"request {name} for the node's client certificate: {refused.type}: {refused.message}"
            )
        if csr.status.certificate:
            return csr.status.certificate
        if not csr.status.conditions:
            await self._approve(name)
        raise IdentityPending(f"the signer {SIGNER} has not answered request {name} yet")

    def _request(self, name: str, key: ec.EllipticCurvePrivateKey, node: str) -> Json:
        spec: Json = {
            "request": base64.b64encode(signing_request(key, node)).decode(),
            "signerName": SIGNER,
            "usages": ["digital signature", "client auth"],
        }
        if self._expiration is not None:
            spec["expirationSeconds"] = self._expiration
        metadata = {"name": name, "labels": {"app.kubernetes.io/managed-by": "isthmus"}}
        return {"apiVersion": CSRS.api_version, "kind": CSRS.kind, "metadata": metadata, "spec": spec}

    async def _approve(self, name: str) -> None:
        condition = {
            "type": "Approved",
            "status": "True",
            "reason": "IsthmusVirtualNode",
            "message": "made by the isthmus manager for a virtual node of its own",
        }
        current: Json = await self._client.get(CSRS, name=name)
        current.setdefault("status", {})["conditions"] = [condition]
        await self._client.replace(CSRS, current, name=name, subresource="approval")

    async def _discard(self, name: str) -> None:
        try:
            await self._client.delete(CSRS, name=name)
        except ApiError as error:
            if not error.not_found:
                raise

    async def _write(self, node: VirtualNode, data: dict[str, bytes], *, pending: bool = False) -> None:
        """Add to the Secret; a finished renewal removes the key that is `pending` otherwise."""
        name = object_name(node.metadata.name)
        entries: Json = {key: base64.b64encode(value).decode() for key, value in data.items()}
        if _KEY in data and not pending:
            entries[_PENDING] = None
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": self._settings.namespace,
                "labels": labels(node.metadata.name),
            },
            "data": entries,
        }
        try:
            await self._client.patch(SECRETS, body, name=name, namespace=self._settings.namespace)
        except ApiError as error:
            if not error.not_found:
                raise
            body["data"] = {key: value for key, value in entries.items() if value is not None}
            await self._client.create(SECRETS, body, namespace=self._settings.namespace)


def signing_request(key: ec.EllipticCurvePrivateKey, node: str) -> bytes:
    """A PKCS#10 request for the node's client identity, PEM."""
    common = f"system:node:{node}"
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, common, _validate=len(common) <= 64),
        ]
    )
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def request_name(key: ec.EllipticCurvePrivateKey) -> str:
    """The same for the same key, so that asking twice finds the first request."""
    return f"isthmus-node-{hashlib.sha256(_public(key.public_key())).hexdigest()[:40]}"


def check(chain: bytes, *, key: ec.EllipticCurvePrivateKey, node: str) -> x509.Certificate:
    """The leaf, if it is what was asked for. Raises `IdentityRefused`."""
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
    except ValueError as error:
        raise IdentityRefused("what was issued is no PEM certificate") from error
    if _public(leaf.public_key()) != _public(key.public_key()):
        raise IdentityRefused("the certificate is for another key")
    if _common_name(leaf) != f"system:node:{node}":
        raise IdentityRefused("the certificate is for another name than the node's")
    return leaf


def span(leaf: x509.Certificate) -> Identity:
    """When to renew a certificate."""
    begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    return Identity(renew_at=begins + (ends - begins) * SHARE, ends=ends)


def stored(secret: Secret, *, node: str, server: str) -> Identity | None:
    """What the Secret's kubeconfig is good for; None if it is not usable, or for another node or server."""
    try:
        document: Json = msgspec.json.decode(base64.b64decode(secret.data[_KEY]))
        if document["clusters"][0]["cluster"]["server"] != server:
            return None
        chain = base64.b64decode(document["users"][0]["user"]["client-certificate-data"])
        leaf = x509.load_pem_x509_certificates(chain)[0]
    except (LookupError, ValueError, msgspec.DecodeError, TypeError):
        return None
    return span(leaf) if _common_name(leaf) == f"system:node:{node}" else None


def trusting(secret: Secret, *, ca: bytes) -> bytes | None:
    """The Secret's kubeconfig with another authority of the API server; None if it names this one, or is none."""
    wanted = base64.b64encode(ca).decode()
    try:
        document: Json = msgspec.json.decode(base64.b64decode(secret.data[_KEY]))
        cluster = document["clusters"][0]["cluster"]
        if cluster["certificate-authority-data"] == wanted:
            return None
        cluster["certificate-authority-data"] = wanted
    except (LookupError, ValueError, msgspec.DecodeError, TypeError):
        return None
    return msgspec.json.encode(document)


def kubeconfig(server: str, *, ca: bytes, node: str, chain: bytes, key: bytes) -> bytes:
    """A kubeconfig with everything inside, as JSON, which is YAML too."""
    user = {
        "client-certificate-data": base64.b64encode(chain).decode(),
        "client-key-data": base64.b64encode(key).decode(),
    }
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(ca).decode()}
    return msgspec.json.encode(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "own",
            "contexts": [{"name": "own", "context": {"cluster": "own", "user": node}}],
            "clusters": [{"name": "own", "cluster": cluster}],
            "users": [{"name": node, "user": user}],
        }
    )


def _pending_key(secret: Secret | None) -> ec.EllipticCurvePrivateKey | None:
    if secret is None or _PENDING not in secret.data:
        return None
    try:
        key = serialization.load_pem_private_key(base64.b64decode(secret.data[_PENDING]), password=None)
    except (ValueError, TypeError):
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _public(key: Any) -> bytes:
    der: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return der


def _common_name(leaf: x509.Certificate) -> str:
    return ",".join(str(a.value) for a in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME))
