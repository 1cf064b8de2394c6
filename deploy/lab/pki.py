"""Certificates of a lab cluster: P-256 keys, one authority per purpose, everything on disk with mode 0600."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFETIME = dt.timedelta(days=365)
# Clocks of the lab are one clock; an hour is for a machine whose clock is set back.
_LEEWAY = dt.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class PairFiles:
    """Where a Pair is on disk."""

    certificate: Path
    key: Path

    def read(self) -> Pair:
        """The pair as it is on disk now."""
        return Pair(self.certificate.read_bytes(), self.key.read_bytes())


class Authority:
    """A certificate authority kept in a folder as NAME.crt and NAME.key; made on first use, then loaded."""

    def __init__(self, folder: Path, *, name: str) -> None:
        self.folder = folder
        self.files = PairFiles(folder / f"{name}.crt", folder / f"{name}.key")
        if not self.files.key.exists():
            _write(self.files, _self_signed(name))
        self._certificate = x509.load_pem_x509_certificate(self.files.certificate.read_bytes())
        key = serialization.load_pem_private_key(self.files.key.read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key

    def client(self, user: str, *, groups: Iterable[str] = ()) -> Pair:
        """A client certificate: the API server reads CN as the user and O as the groups."""
        return self._issue(_subject(user, groups), usages=[ExtendedKeyUsageOID.CLIENT_AUTH], names=[])

    def server(self, name: str, *, hosts: Iterable[str], groups: Iterable[str] = ()) -> Pair:
        """A serving certificate for DNS names and IP addresses."""
        names = [_general_name(host) for host in hosts]
        return self._issue(_subject(name, groups), usages=[ExtendedKeyUsageOID.SERVER_AUTH], names=names)

    def save(self, name: str, pair: Pair) -> PairFiles:
        """Keep a pair in the authority's folder."""
        files = PairFiles(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        _write(files, pair)
        return files

    def _issue(self, subject: x509.Name, *, usages: list[x509.ObjectIdentifier], names: list[x509.GeneralName]) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(subject, issuer=self._certificate.subject, key=key)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return _pair(builder.sign(self._key, hashes.SHA256()), key)


def signing_key(file: Path) -> tuple[Path, Path]:
    """The key pair that signs service account tokens: (private, public) files, made on first use."""
    public = file.with_suffix(".pub")
    if not file.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        write_private(file, _key_pem(key))
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    return file, public


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, never for a moment otherwise, replacing it as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    temporary.rename(path)


def _self_signed(name: str) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(name, ())
    builder = _builder(subject, issuer=subject, key=key)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = builder.add_extension(usage, critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    return _pair(builder.sign(key, hashes.SHA256()), key)


def _builder(subject: x509.Name, *, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    return (
        builder.serial_number(x509.random_serial_number())
        .not_valid_before(now - _LEEWAY)
        .not_valid_after(now + _LIFETIME)
    )


def _subject(name: str, groups: Iterable[str]) -> x509.Name:
    organisations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*organisations, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _write(files: PairFiles, pair: Pair) -> None:
    write_private(files.key, pair.key)
    write_private(files.certificate, pair.certificate)
