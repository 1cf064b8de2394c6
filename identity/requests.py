"""What a consumer asks with: certificate requests and the texts that it signs; and how the provider checks them. Pure.

The signer of an API server copies the subject and the alternative names of a certificate request into the certificate,
so a request is accepted only if it says nothing but the one user name that its asker is to have (abuse test A37).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from api.authentication.common import SignedRequest
from identity import keys, names
from identity.keys import PrivateKey
from identity.problems import RefusedError

LIFETIME = timedelta(days=7)
"""How long a request may be under way before the provider takes it for the first time."""
SKEW = timedelta(minutes=10)
"""How far the two clusters' clocks may differ."""
SHARE = 2 / 3
"""Part of a credential's life after which it is renewed."""
_SPOILT = (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion)
_HASHES = ("sha256", "sha384", "sha512")


@dataclass(frozen=True, slots=True, kw_only=True)
class Csr:
    """A certificate request that was checked."""

    pem: bytes
    digest: str
    """SHA-256 of its DER form, hexadecimal."""
    key: ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """Who asks."""

    consumer_id: str
    cluster_id: str


def make_csr(key: PrivateKey, user: str) -> str:
    """A request for a certificate as `user`, PEM."""
    common = x509.NameAttribute(NameOID.COMMON_NAME, user, _validate=len(user) <= 64)
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([common])).sign(key.raw, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def check_csr(pem: str, *, user: str, field: str) -> Csr:
    """The request, if it is for `user` and for nothing else. Raises `RefusedError`."""
    try:
        parsed = x509.load_pem_x509_csr(pem.encode())
        public, extensions = parsed.public_key(), list(parsed.extensions)
        subject = [(attribute.oid, str(attribute.value)) for attribute in parsed.subject]
        algorithm = parsed.signature_hash_algorithm
        valid = parsed.is_signature_valid
        attributes = [attribute.oid for attribute in parsed.attributes]
        der, text = (parsed.public_bytes(kind) for kind in (serialization.Encoding.DER, serialization.Encoding.PEM))
    except _SPOILT:
        raise RefusedError("BadRequest", f"{field}: not a PKCS#10 certificate request in PEM") from None
    key = keys.accepted(public, field=field)
    problems = {
        "its signature is wrong": not valid,
        "its signature must use SHA-256 or better": algorithm is None or algorithm.name not in _HASHES,
        "it asks for extensions, such as other names; it may ask for none": bool(extensions),
        "it has attributes besides; it may have none": bool(attributes),
        f"its subject must be CN={user} and nothing else": subject != [(NameOID.COMMON_NAME, user)],
    }
    for problem, is_so in problems.items():
        if is_so:
            raise RefusedError("BadRequest", f"{field}: {problem}")
    return Csr(pem=text, digest=hashlib.sha256(der).hexdigest(), key=key)


def sign_request(key: PrivateKey, party: Party, *, identity: str, now: datetime) -> SignedRequest:
    """A request to become a tenant, with a nonce of its own."""
    made = SignedRequest(
        identity=identity,
        nonce=os.urandom(16).hex(),
        issued_at=timestamp(now),
        certificate_request=make_csr(key, names.join_user(party.consumer_id, key.digest())),
        signature="",
    )
    text = _peering_text(party, made, key.digest())
    return SignedRequest(
        identity=made.identity,
        nonce=made.nonce,
        issued_at=made.issued_at,
        certificate_request=made.certificate_request,
        signature=key.sign(text),
    )


def check_request(request: SignedRequest, party: Party, *, public_key: str) -> Csr:
    """The certificate request inside, if the whole is by the key's owner. Raises `RefusedError`."""
    public = keys.load_public(public_key)
    digest = keys.digest(public)
    keys.verify(public, request.signature, _peering_text(party, request, digest), field="spec.request.signature")
    user = names.join_user(party.consumer_id, digest)
    csr = check_csr(request.certificate_request, user=user, field="spec.request.certificateRequest")
    if keys.digest(csr.key) != digest:
        raise RefusedError("BadRequest", "spec.request.certificateRequest: it is for another key than spec.publicKey")
    return csr


def check_fresh(
    request: SignedRequest, *, now: datetime, last: str, nonces: Collection[str], lifetime: timedelta = LIFETIME
) -> None:
    """Raise `RefusedError` if a request that was not accepted before is too old, or is used again.

    `last` is the time of the request that was accepted last, `nonces` are those of earlier ones.
    """
    advice = "let the consumer make a new one (isthmus peer request)"
    issued = parse_time(request.issued_at, field="spec.request.issuedAt")
    if request.nonce in nonces:
        raise RefusedError("NonceReused", f"spec.request.nonce: it was used for another request before; {advice}")
    if issued > now + SKEW:
        text = f"spec.request.issuedAt: {request.issued_at} is in the future; one of the clusters' clocks is wrong"
        raise RefusedError("ClockSkew", text)
    if now - issued > lifetime + SKEW:
        text = f"spec.request.issuedAt: the request is older than {lifetime.days} days; {advice}"
        raise RefusedError("RequestExpired", text)
    if last and issued <= parse_time(last, field="status.requestedAt"):
        text = f"spec.request.issuedAt: a later request, of {last}, was accepted already; {advice}"
        raise RefusedError("Replayed", text)


def sign_credential(key: PrivateKey, *, user: str, csr: str) -> str:
    """The signature of a CredentialRequest: its asker has the Tenant's key and means this certificate request."""
    return key.sign(_credential_text(user, _digest(csr)))


def check_credential(pem: str, signature: str, *, user: str, public_key: str) -> Csr:
    """The certificate request of a CredentialRequest, if the Tenant's key vouches for it. Raises `RefusedError`."""
    csr = check_csr(pem, user=user, field="spec.certificateRequest")
    public = keys.load_public(public_key)
    keys.verify(public, signature, _credential_text(user, csr.digest), field="spec.signature")
    return csr


def parse_time(text: str, *, field: str) -> datetime:
    """An RFC 3339 time. Raises `RefusedError`."""
    found: datetime | None
    try:
        found = datetime.fromisoformat(text)
        found = (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        found = None
    if found is None or not 2000 <= found.year < 9000:  # what lies outside cannot be reckoned with
        raise RefusedError("BadTime", f"{field}: not a time as 2026-01-31T12:00:00Z")
    return found


def timestamp(at: datetime) -> str:
    """A time as Kubernetes writes it (RFC 3339, seconds)."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def renewal(now: datetime, expires: str) -> datetime:
    """When to renew what is issued now."""
    return now + (parse_time(expires, field="expires") - now) * SHARE


def _digest(pem: str) -> str:
    try:
        parsed = x509.load_pem_x509_csr(pem.encode())
    except _SPOILT:
        raise RefusedError("BadRequest", "spec.request.certificateRequest: not a certificate request in PEM") from None
    return hashlib.sha256(parsed.public_bytes(serialization.Encoding.DER)).hexdigest()


def _peering_text(party: Party, request: SignedRequest, key: str) -> bytes:
    """What is signed. One value a line, and no value can hold an end of line: the API server checks their patterns."""
    values = {
        "consumer": party.consumer_id,
        "cluster": party.cluster_id,
        "identity": request.identity,
        "key": key,
        "nonce": request.nonce,
        "issued": request.issued_at,
        "request": _digest(request.certificate_request),
    }
    return _text("isthmus peering request v1", values)


def _credential_text(user: str, csr: str) -> bytes:
    return _text("isthmus credential request v1", {"user": user, "request": csr})


def _text(title: str, values: dict[str, str]) -> bytes:
    if any("\n" in value for value in values.values()):
        raise RefusedError("BadRequest", "spec.request: no value may hold an end of line")
    return "\n".join([title, *(f"{name} {value}" for name, value in values.items())]).encode()
