"""A token for one key's owner only: ECDH with a key made for this once, HKDF-SHA256, AES-256-GCM. Pure.

The form is base64 of: the ephemeral public point (65 bytes, SEC 1 uncompressed), nonce (12 bytes), ciphertext with tag.
What it is for (`purpose`) is authenticated with it, so that it cannot be passed off as another's.
"""

from __future__ import annotations

import base64
import binascii
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from identity.keys import PrivateKey
from identity.problems import RefusedError

_POINT = 65
_NONCE = 12
_INFO = b"isthmus sealed token v1"


def seal(secret: str, key: ec.EllipticCurvePublicKey, *, purpose: str) -> str:
    """`secret` so that only the owner of `key` can read it."""
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PublicFormat.UncompressedPoint
    point = ephemeral.public_key().public_bytes(serialization.Encoding.X962, form)
    nonce = os.urandom(_NONCE)
    cipher = AESGCM(_derive(ephemeral.exchange(ec.ECDH(), key), point))
    return base64.b64encode(point + nonce + cipher.encrypt(nonce, secret.encode(), purpose.encode())).decode()


def unseal(sealed: str, key: PrivateKey, *, purpose: str) -> str:
    """What was sealed. Raises `RefusedError`."""
    try:
        data = base64.b64decode(sealed, validate=True)
        point, nonce, text = data[:_POINT], data[_POINT : _POINT + _NONCE], data[_POINT + _NONCE :]
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        cipher = AESGCM(_derive(key.raw.exchange(ec.ECDH(), public), point))
        return cipher.decrypt(nonce, text, purpose.encode()).decode("ascii")
    except (InvalidTag, binascii.Error, ValueError):
        raise RefusedError("BadToken", "the sealed token is not for our key, or was changed on its way") from None


def _derive(shared: bytes, point: bytes) -> bytes:
    return HKDF(hashes.SHA256(), length=32, salt=point, info=_INFO).derive(shared)
