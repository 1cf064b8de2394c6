"""Credentials for a provider as kubeconfigs and as what our own client takes. Pure."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from identity import keys
from identity.keys import PrivateKey
from identity.problems import RefusedError
from kube.kubeconfig import Material

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the provider is, and the only authorities that may vouch for it."""

    server: str
    ca: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Who we are there: a certificate with its key, or a token."""

    user: str
    certificate: str = ""
    key: str = field(default="", repr=False)
    token: str = field(default="", repr=False)


def material(place: Place, proof: Proof) -> Material:
    """What our own client connects with."""
    return Material(
        server=place.server.rstrip("/"),
        server_name=None,
        ca=place.ca.encode(),
        certificate=proof.certificate.encode() or None,
        key=proof.key.encode() or None,
        token=proof.token or None,
    )


def kubeconfig(place: Place, proof: Proof) -> bytes:
    """A kubeconfig with everything inside, as JSON, which is YAML too."""
    user: Json = {"token": proof.token} if proof.token else {}
    if proof.certificate:
        user = {"client-certificate-data": _encoded(proof.certificate), "client-key-data": _encoded(proof.key)}
    cluster = {"server": place.server, "certificate-authority-data": _encoded(place.ca)}
    return msgspec.json.encode(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "provider",
            "contexts": [{"name": "provider", "context": {"cluster": "provider", "user": proof.user}}],
            "clusters": [{"name": "provider", "cluster": cluster}],
            "users": [{"name": proof.user, "user": user}],
        }
    )


def read(text: bytes) -> tuple[Place, Proof] | None:
    """What such a kubeconfig says; None if it is none of ours."""
    try:
        document = msgspec.json.decode(text)
        cluster, entry = document["clusters"][0]["cluster"], document["users"][0]
        user = entry["user"]
        place = Place(server=cluster["server"], ca=_decoded(cluster["certificate-authority-data"]))
        proof = Proof(
            user=entry["name"],
            certificate=_decoded(user.get("client-certificate-data", "")),
            key=_decoded(user.get("client-key-data", "")),
            token=user.get("token", ""),
        )
    except (LookupError, ValueError, TypeError, AttributeError, msgspec.DecodeError):
        return None
    return (place, proof) if proof.token or (proof.certificate and proof.key) else None


def check_certificate(chain: str, key: PrivateKey, *, user: str) -> x509.Certificate:
    """The leaf, if it is for our key and this user. Raises `RefusedError`."""
    try:
        leaf = x509.load_pem_x509_certificates(chain.encode())[0]
        public = leaf.public_key()
    except ValueError:
        raise RefusedError("BadCertificate", "what the provider gave is no certificate in PEM") from None
    if not isinstance(public, ec.EllipticCurvePublicKey) or keys.digest(public) != key.digest():
        text = "the provider's certificate is for another key than ours: apply our Tenant (status.tenant) there again"
        raise RefusedError("KeyMismatch", text)
    names = [str(attribute.value) for attribute in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [user]:
        raise RefusedError("BadCertificate", f"the provider's certificate is for {names}, not for {user}")
    return leaf


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _decoded(text: str) -> str:
    return base64.b64decode(text, validate=True).decode()
