"""Keys and signatures: ECDSA on P-256 with SHA-256, and nothing else. Pure.

One kind of key is enough for two programs of the same project, and leaves no weak one to be chosen (RSA-1024, SHA-1:
abuse test A39).
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from identity.problems import RefusedError

_ALGORITHM = ec.ECDSA(hashes.SHA256())


class PrivateKey:
    """A key of ours. It does not show itself in repr or logs."""

    __slots__ = ("_key",)

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    @classmethod
    def generate(cls) -> PrivateKey:
        """A new one."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def load(cls, pem: bytes) -> PrivateKey:
        """Read PEM. Raises ValueError."""
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (TypeError, UnsupportedAlgorithm) as error:
            raise ValueError("no usable private key (PEM, not encrypted)") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("the private key is not one of ECDSA")
        return cls(key)

    @property
    def raw(self) -> ec.EllipticCurvePrivateKey:
        """The key itself."""
        return self._key

    def pem(self) -> bytes:
        """PKCS#8, PEM."""
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        return self._key.private_bytes(encoding, form, serialization.NoEncryption())

    def public_pem(self) -> str:
        """The public key, PEM."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()

    def digest(self) -> str:
        """See `digest`."""
        return digest(self._key.public_key())

    def sign(self, text: bytes) -> str:
        """A signature, base64."""
        return base64.b64encode(self._key.sign(text, _ALGORITHM)).decode()


def load_public(pem: str, *, field: str = "spec.publicKey") -> ec.EllipticCurvePublicKey:
    """A consumer's public key. Raises `RefusedError`."""
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise RefusedError("BadKey", f"{field}: not a public key in PEM") from None
    return accepted(key, field=field)


def accepted(key: object, *, field: str) -> ec.EllipticCurvePublicKey:
    """The key, if it is of the one kind that is used here. Raises `RefusedError`."""
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise RefusedError("BadKey", f"{field}: the key must be an ECDSA one on the curve P-256")
    return key


def digest(key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 of the key's SubjectPublicKeyInfo, hexadecimal."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()


def verify(key: ec.EllipticCurvePublicKey, signature: str, text: bytes, *, field: str) -> None:
    """Raise `RefusedError` unless the signature is the key's over the text."""
    try:
        key.verify(base64.b64decode(signature, validate=True), text, _ALGORITHM)
    except (InvalidSignature, binascii.Error, ValueError):
        raise RefusedError(
            "BadSignature",
            f"{field}: not a signature by the consumer's key over this request; nothing may be edited in it",
        ) from None
