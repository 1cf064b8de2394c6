"""The webhook's own authority and serving certificate, and when each is to be replaced. Pure.

Both are replaced at two thirds of their life. A new authority is first only made known (`bundle`, which becomes the
caBundle of the webhook's configuration); no server shows a certificate of it before API servers have had the time to
learn it (`settled`). The old authority stays in the bundle until it expires, so whichever certificate a replica still
shows, and whichever bundle an API server still has, they fit.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_BUNDLE: Final = "ca.crt"
CA_KEY: Final = "ca.key"
CHAIN: Final = "tls.crt"
KEY: Final = "tls.key"


class MaterialError(ValueError):
    """What is kept is not a usable set of keys and certificates; the text says why and shows no key."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long what is valid; `leeway` is how far the clocks of API servers may be behind."""

    authority: timedelta = timedelta(days=730)
    serving: timedelta = timedelta(days=90)
    leeway: timedelta = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """All that is kept. `bundle` has the newest authority first; `authority_key` is that one's.

    Compared by the certificates, which say for which keys they are.
    """

    bundle: tuple[x509.Certificate, ...]
    authority_key: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)

    @property
    def authority(self) -> x509.Certificate:
        """The newest authority."""
        return self.bundle[0]

    @property
    def is_newest(self) -> bool:
        """Whether the newest authority signed the serving certificate."""
        return _issued(self.certificate, self.authority)

    def bundle_pem(self) -> bytes:
        """The authorities that a caller is to trust."""
        return b"".join(map(_pem, self.bundle))

    def serving_pem(self) -> bytes:
        """Key and certificate in one text, as `ssl.SSLContext.load_cert_chain` takes them."""
        return _key_pem(self.key) + _pem(self.certificate)

    def encode(self) -> dict[str, bytes]:
        """As the data of a Secret."""
        return {
            CA_BUNDLE: self.bundle_pem(),
            CA_KEY: _key_pem(self.authority_key),
            CHAIN: _pem(self.certificate),
            KEY: _key_pem(self.key),
        }


def decode(data: Mapping[str, bytes]) -> Material:
    """What `encode` made. Raises `MaterialError`."""
    try:
        bundle = tuple(x509.load_pem_x509_certificates(data[CA_BUNDLE]))
        certificate = x509.load_pem_x509_certificate(data[CHAIN])
        authority_key, key = _load_key(data[CA_KEY]), _load_key(data[KEY])
    except KeyError as error:
        raise MaterialError(f"{error} is missing") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise MaterialError("not readable as PEM") from error
    if not bundle or not _belong(bundle[0], authority_key) or not _belong(certificate, key):
        raise MaterialError("keys and certificates do not belong together")
    if not any(_issued(certificate, authority) for authority in bundle):
        raise MaterialError("the serving certificate is of none of the authorities")
    return Material(bundle=bundle, authority_key=authority_key, certificate=certificate, key=key)


def advance(
    material: Material | None, *, names: tuple[str, ...], now: datetime, lifetimes: Lifetimes, settled: bool
) -> Material:
    """What to have now: `material` itself if nothing is due.

    `settled` says that API servers have known the newest authority for long enough.
    """
    if material is None or now >= material.authority.not_valid_after_utc:
        return _begin(names, now=now, lifetimes=lifetimes, known=material.bundle if material else ())
    if now >= two_thirds(material.authority):
        material, settled = _new_authority(material, now=now, lifetimes=lifetimes), False
    wanted = not material.is_newest or now >= two_thirds(material.certificate)
    if _names(material.certificate) != set(names) or now >= material.certificate.not_valid_after_utc:
        wanted = settled = True  # it is of no use as it is
    if wanted and settled:
        authority = (material.authority, material.authority_key)
        certificate, key = _serving(authority, names, now=now, lifetimes=lifetimes)
        material = replace(material, certificate=certificate, key=key)
    valid = tuple(one for one in material.bundle if now < one.not_valid_after_utc)
    return material if valid == material.bundle else replace(material, bundle=valid)


def next_due(material: Material) -> datetime:
    """When `advance` has something to do next, but for a new authority's settling."""
    return min(two_thirds(material.authority), two_thirds(material.certificate))


def two_thirds(certificate: x509.Certificate) -> datetime:
    """The time by which a certificate is to be replaced."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begin + (end - begin) * 2 / 3


def fingerprint(certificate: x509.Certificate) -> bytes:
    """Tells certificates apart."""
    return certificate.fingerprint(hashes.SHA256())


def _begin(
    names: tuple[str, ...], *, now: datetime, lifetimes: Lifetimes, known: tuple[x509.Certificate, ...]
) -> Material:
    authority = _authority(now=now, lifetimes=lifetimes)
    certificate, key = _serving(authority, names, now=now, lifetimes=lifetimes)
    valid = tuple(one for one in known if now < one.not_valid_after_utc)
    return Material(bundle=(authority[0], *valid), authority_key=authority[1], certificate=certificate, key=key)


def _new_authority(material: Material, *, now: datetime, lifetimes: Lifetimes) -> Material:
    certificate, key = _authority(now=now, lifetimes=lifetimes)
    return replace(material, bundle=(certificate, *material.bundle), authority_key=key)


_Signer = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def _authority(*, now: datetime, lifetimes: Lifetimes) -> _Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    # The serial number makes each authority's name its own: two of one name in a bundle would be tried in turn.
    serial = x509.random_serial_number()
    name = _name(f"isthmus webhook authority {serial:x}"[:64])
    builder = _builder(name, name, key, now=now, end=now + lifetimes.authority, leeway=lifetimes.leeway)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return builder.serial_number(serial).sign(key, hashes.SHA256()), key


def _serving(signer: _Signer, names: tuple[str, ...], *, now: datetime, lifetimes: Lifetimes) -> _Signer:
    authority, authority_key = signer
    key = ec.generate_private_key(ec.SECP256R1())
    end = min(now + lifetimes.serving, authority.not_valid_after_utc)
    builder = _builder(_name("isthmus webhook"), authority.subject, key, now=now, end=end, leeway=lifetimes.leeway)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    builder = builder.add_extension(identifier, critical=False).serial_number(x509.random_serial_number())
    return builder.sign(authority_key, hashes.SHA256()), key


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    *,
    now: datetime,
    end: datetime,
    leeway: timedelta,
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.not_valid_before(now - leeway).not_valid_after(end)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)


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


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _names(certificate: x509.Certificate) -> set[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {str(name.value) for name in found}


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _belong(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    return certificate.public_key() == key.public_key()


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("not an elliptic curve key")
    return key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
