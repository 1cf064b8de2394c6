"""The fabric's own small authority: who may call agents, and who is an agent of which role. Pure.

Gateways hold keys and nodes do not, so each role has a certificate of its own, and the controller asks for the role's
name: what runs on some node cannot pass for a gateway. Everything is replaced at two thirds of its life. A new
authority is only made known at first; certificates are of it once everybody has had a day to learn it, and the old one
stays known until it expires. Both follow from the certificates' own dates, so there is nothing else to remember.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from kube import pki
from kube.pki import Pair

CA, CA_KEY, CERTIFICATE, KEY = "ca.crt", "ca.key", "tls.crt", "tls.key"
CONTROLLER: Final = "controller.fabric.isthmus.internal"
NAMES: Final = {"gateway": "gateway.fabric.isthmus.internal", "node": "node.fabric.isthmus.internal"}
"""The name by which agents of a role are known, whatever their address."""


class MaterialError(ValueError):
    """What is kept is not usable; the text says why and shows no key."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long what is valid, and how long a new authority is only made known."""

    authority: timedelta = timedelta(days=730)
    certificate: timedelta = timedelta(days=90)
    settle: timedelta = timedelta(days=1)


Authorities = tuple[Pair, ...]
"""The newest first."""


def advance(known: Authorities, *, now: datetime, lifetimes: Lifetimes) -> Authorities:
    """The authorities to have now: those that are valid, and a new one where the newest is due."""
    valid = tuple(one for one in known if now < one.certificate.not_valid_after_utc)
    if valid and now < pki.two_thirds(valid[0].certificate):
        return valid
    return (pki.new_authority("isthmus fabric authority", now=now, life=lifetimes.authority), *valid)


def signer(authorities: Authorities, *, now: datetime, lifetimes: Lifetimes) -> Pair:
    """The newest that everybody knows; where there is none, the oldest."""
    settled = [
        one for one in authorities if now - one.certificate.not_valid_before_utc >= lifetimes.settle + pki.LEEWAY
    ]
    return settled[0] if settled else authorities[-1]


def is_due(held: Pair, *, name: str, by: Pair, now: datetime) -> bool:
    """Whether a certificate is to be made anew."""
    if now >= pki.two_thirds(held.certificate) or not pki.is_issued_by(held.certificate, by.certificate):
        return True
    return pki.names_of(held.certificate) != {name}


def issue(by: Pair, name: str, *, now: datetime, lifetimes: Lifetimes) -> Pair:
    """A certificate for an agent's role or the controller."""
    usage = pki.CLIENT if name == CONTROLLER else pki.SERVER
    return pki.issue(by, name, names=[name], usage=usage, now=now, life=lifetimes.certificate)


# -- as data of Secrets


def encode_authorities(authorities: Authorities) -> dict[str, bytes]:
    """All of them, the newest first."""
    return {CA: bundle(authorities), CA_KEY: b"".join(pki.key_pem(one.key) for one in authorities)}


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
    return {CERTIFICATE: pki.certificate_pem(pair.certificate), KEY: pki.key_pem(pair.key), CA: bundle(authorities)}


def decode(data: Mapping[str, bytes]) -> Pair:
    """What `encode` made. Raises `MaterialError`."""
    certificates = _certificates(data, CERTIFICATE)
    if not certificates:
        raise MaterialError(f"{CERTIFICATE} is missing")
    return _pair(certificates[0], data.get(KEY, b""))


def bundle(authorities: Iterable[Pair]) -> bytes:
    """Whom to trust, PEM."""
    return b"".join(pki.certificate_pem(one.certificate) for one in authorities)


def _certificates(data: Mapping[str, bytes], entry: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(data.get(entry, b""))
    except ValueError as error:
        raise MaterialError(f"{entry} is not readable as PEM") from error


def _pair(certificate: x509.Certificate, key: bytes) -> Pair:
    try:
        pair = Pair(certificate, pki.load_key(key))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise MaterialError("a key is not readable as PEM") from None
    if not pair.belong():
        raise MaterialError("a key and its certificate do not belong together")
    return pair
