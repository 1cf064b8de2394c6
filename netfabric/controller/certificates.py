"""The fabric's own small authority: who may call agents, and who is an agent of which role. Pure.

Gateways hold keys and nodes do not, so each role has a certificate of its own, and the controller asks for the role's
name: what runs on some node cannot pass for a gateway. Everything is replaced at two thirds of its life. A new
authority is only made known at first; certificates are of it once everybody has had a day to learn it, and the old one
stays known until it expires. Both follow from the certificates' own dates, so there is nothing else to remember.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA, CA_KEY, CERTIFICATE, KEY = "ca.crt", "ca.key", "tls.crt", "tls.key"
CONTROLLER: Final = "controller.fabric.isthmus.internal"
NAMES: Final = {"gateway": "gateway.fabric.isthmus.internal", "node": "node.fabric.isthmus.internal"}
"""The name by which agents of a role are known, whatever their address."""

_LEEWAY = timedelta(minutes=10)


class MaterialError(ValueError):
    """What is kept is not usable; the text says why and shows no key."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long what is valid, and how long a new authority is only made known."""

    authority: timedelta = timedelta(days=730)
    certificate: timedelta = timedelta(days=90)
    settle: timedelta = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)


Authorities = tuple[Pair, ...]
"""The newest first."""


def advance(known: Authorities, *, now: datetime, lifetimes: Lifetimes) -> Authorities:
    """The authorities to have now: those that are valid, and a new one where the newest is due."""
    valid = tuple(one for one in known if now < one.certificate.not_valid_after_utc)
    if valid and now < two_thirds(valid[0].certificate):
        return valid
    return (_authority(now=now, lifetimes=lifetimes), *valid)


def signer(authorities: Authorities, *, now: datetime, lifetimes: Lifetimes) -> Pair:
    """The newest that everybody knows; where there is none, the oldest."""
    settled = [one for one in authorities if now - one.certificate.not_valid_before_utc >= lifetimes.settle + _LEEWAY]
    return settled[0] if settled else authorities[-1]


def is_due(held: Pair, *, name: str, by: Pair, now: datetime) -> bool:
    """Whether a certificate is to be made anew."""
    if now >= two_thirds(held.certificate) or not _issued(held.certificate, by.certificate):
        return True
    return _names(held.certificate) != {name}


def issue(by: Pair, name: str, *, now: datetime, lifetimes: Lifetimes) -> Pair:
    """A certificate for an agent's role or the controller."""
    key = ec.generate_private_key(ec.SECP256R1())
    end = min(now + lifetimes.certificate, by.certificate.not_valid_after_utc)
    usage = ExtendedKeyUsageOID.CLIENT_AUTH if name == CONTROLLER else ExtendedKeyUsageOID.SERVER_AUTH
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key())
    builder = (
        _builder(_name(name), by.certificate.subject, key, now=now, end=end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(identifier, critical=False)
    )
    return Pair(builder.sign(by.key, hashes.SHA256()), key)


def two_thirds(certificate: x509.Certificate) -> datetime:
    """When a certificate is to be replaced."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begin + (end - begin) * 2 / 3


# -- as data of Secrets


def encode_authorities(authorities: Authorities) -> dict[str, bytes]:
    """All of them, the newest first."""
    return {CA: bundle(authorities), CA_KEY: b"".join(_key_pem(one.key) for one in authorities)}


def decode_authorities(data: Mapping[str, bytes]) -> Authorities:
    """What `encode_authorities` made. Raises `MaterialError`."""
    certificates = _certificates(data, CA)
    end = b"-----END PRIVATE KEY-----\n"
    parts = [part + end for part in data.get(CA_KEY, b"").split(end) if part.strip()]
    if not certificates or len(parts) != len(certificates):
        raise MaterialError("authorities and keys are not of one number")
    return tuple(_pair(certificate, part) for certificate, part in zip(certificates, parts, strict=True))


def encode(pair: Pair, authorities: Authorities) -> dict[str, bytes]:
    """A certificate, its key and whom to trust, as a Secret of type kubernetes.io/tls names them."""
    return {CERTIFICATE: _pem(pair.certificate), KEY: _key_pem(pair.key), CA: bundle(authorities)}


def decode(data: Mapping[str, bytes]) -> Pair:
    """What `encode` made. Raises `MaterialError`."""
    certificates = _certificates(data, CERTIFICATE)
    if not certificates:
        raise MaterialError(f"{CERTIFICATE} is missing")
    return _pair(certificates[0], data.get(KEY, b""))


def bundle(authorities: Iterable[Pair]) -> bytes:
    """Whom to trust, PEM."""
    return b"".join(_pem(one.certificate) for one in authorities)


def _certificates(data: Mapping[str, bytes], entry: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(data.get(entry, b""))
    except ValueError as error:
        raise MaterialError(f"{entry} is not readable as PEM") from error


def _pair(certificate: x509.Certificate, key: bytes) -> Pair:
    try:
        loaded = serialization.load_pem_private_key(key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise MaterialError("a key is not readable as PEM") from None
    if not isinstance(loaded, ec.EllipticCurvePrivateKey) or loaded.public_key() != certificate.public_key():
        raise MaterialError("a key and its certificate do not belong together")
    return Pair(certificate, loaded)


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _names(certificate: x509.Certificate) -> set[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return set()
    return set(found.value.get_values_for_type(x509.DNSName))


def _authority(*, now: datetime, lifetimes: Lifetimes) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    # Each has a name of its own: two of one name in a bundle would be tried in turn.
    name = _name(f"isthmus fabric authority {x509.random_serial_number():x}"[:64])
    builder = (
        _builder(name, name, key, now=now, end=now + lifetimes.authority)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )
    return Pair(builder.sign(key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LEEWAY)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
