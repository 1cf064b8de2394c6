"""Serving keys, certificate signing requests, and what must hold for a certificate that comes back. Pure.

Contract of the signer kubernetes.io/kubelet-serving (k8s.io/kubernetes/pkg/apis/certificates/helpers.go):
organisation exactly "system:nodes", common name "system:node:<name>", at least one DNS name or IP address and no
other kind of name, usages exactly "digital signature" and "server auth" for a key that is not RSA.
"""

import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SIGNER = "kubernetes.io/kubelet-serving"
USAGES = ("digital signature", "server auth")


class CertificateError(Exception):
    """A key or certificate is not what we asked for, or cannot be read; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Whom the certificate is for: the node, and the names and addresses at which it is called."""

    node: str
    addresses: tuple[str, ...]
    dns: tuple[str, ...] = ()

    @property
    def common_name(self) -> str:
        """The subject's common name, which is the node's user name."""
        return f"system:node:{self.node}"

    def alternative(self) -> set[str]:
        """All subject alternative names as text, addresses in their short form."""
        return {str(ipaddress.ip_address(address)) for address in self.addresses} | set(self.dns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A private key and the certificate chain for it, both PEM. The key never shows in repr."""

    chain: bytes
    leaf: x509.Certificate
    key: "Key"

    def pem(self) -> bytes:
        """Key and chain in one text, the form `ssl.SSLContext.load_cert_chain` takes from a single file."""
        return self.key.pem() + self.chain


class Key:
    """A private key that does not show itself in repr or logs."""

    __slots__ = ("_key",)

    def __init__(self, key: PrivateKeyTypes) -> None:
        self._key = key

    @classmethod
    def generate(cls) -> "Key":
        """A new ECDSA P-256 key."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def load(cls, pem: bytes) -> "Key":
        """Read the first private key of a PEM text; CertificateError if there is none."""
        try:
            return cls(serialization.load_pem_private_key(pem, password=None))
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            message = "no usable private key (PEM, not encrypted)"
            raise CertificateError(message) from error

    def pem(self) -> bytes:
        """PKCS#8 PEM."""
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        return self._key.private_bytes(encoding, form, serialization.NoEncryption())

    def public(self) -> bytes:
        """The public key, DER SubjectPublicKeyInfo."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_key().public_bytes(serialization.Encoding.DER, form)

    def request(self, names: Names) -> bytes:
        """A PKCS#10 request for `names`, PEM."""
        if not isinstance(self._key, ec.EllipticCurvePrivateKey):
            message = "serving keys are ECDSA"
            raise CertificateError(message)
        organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes")
        # A node name may be longer than the 64 characters that X.520 allows a common name and that nobody enforces.
        common_name = x509.NameAttribute(NameOID.COMMON_NAME, names.common_name, _validate=len(names.common_name) <= 64)
        general: list[x509.GeneralName] = [x509.DNSName(name) for name in names.dns]
        general.extend(x509.IPAddress(ipaddress.ip_address(address)) for address in names.addresses)
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([organisation, common_name]))
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def object_name(key: Key, names: Names) -> str:
    """The name of the request's object: the same for the same key and names, so that asking twice finds the first."""
    digest = hashlib.sha256(key.public())
    for name in sorted(names.alternative()):
        digest.update(b"\0" + name.encode())
    return f"isthmus-serving-{digest.hexdigest()[:40]}"


def accept(chain: bytes, *, key: Key, now: datetime) -> Pair:
    """A pair of `key` and `chain`, if they belong together and the certificate is good for a server now."""
    try:
        certificates = x509.load_pem_x509_certificates(chain)
    except ValueError as error:
        message = "what was issued is no PEM certificate"
        raise CertificateError(message) from error
    leaf = certificates[0]
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    if leaf.public_key().public_bytes(serialization.Encoding.DER, form) != key.public():
        message = "the certificate is for another key"
        raise CertificateError(message)
    if now >= leaf.not_valid_after_utc:
        message = f"the certificate expired at {leaf.not_valid_after_utc.isoformat()}"
        raise CertificateError(message)
    if not _serves(leaf):
        message = "the certificate is not one for a server (no extended key usage serverAuth)"
        raise CertificateError(message)
    return Pair(chain=b"".join(_pem(certificate) for certificate in certificates), leaf=leaf, key=key)


def missing_names(leaf: x509.Certificate, names: Names) -> set[str]:
    """The names that the certificate ought to carry and does not."""
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return names.alternative()
    present = {str(address) for address in extension.get_values_for_type(x509.IPAddress)}
    return names.alternative() - present - set(extension.get_values_for_type(x509.DNSName))


def extra_names(leaf: x509.Certificate, names: Names) -> set[str]:
    """Names in the certificate that were not asked for: a signer that adds some is not to be trusted with ours."""
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {_text(name) for name in extension} - names.alternative()


def split(pem: bytes) -> tuple[bytes, bytes]:
    """The private key and the certificates of a combined PEM file."""
    blocks: list[bytes] = []
    for part in pem.split(b"-----BEGIN ")[1:]:
        blocks.append(b"-----BEGIN " + part)
    keys = [block for block in blocks if b"PRIVATE KEY-----" in block.split(b"\n", 1)[0]]
    certificates = [block for block in blocks if block.startswith(b"-----BEGIN CERTIFICATE-----")]
    return b"".join(keys[:1]), b"".join(certificates)


def _serves(leaf: x509.Certificate) -> bool:
    try:
        usage: Iterable[x509.ObjectIdentifier] = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True  # without the extension any use is allowed (RFC 5280, 4.2.1.12)
    return any(use in (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE) for use in usage)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _text(name: x509.GeneralName) -> str:
    return str(name.value)
