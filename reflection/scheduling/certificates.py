"""The webhook's own authority and serving certificate, and when each is to be replaced. Pure.

Both are replaced at two thirds of their life. A new authority is first only made known (`bundle`, which becomes the
caBundle of the webhook's configuration); no server shows a certificate of it before API servers have had the time to
learn it (`settled`). The old authority stays in the bundle until it expires, so whichever certificate a replica still
shows, and whichever bundle an API server still has, they fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from kube import pki
from kube.pki import Pair

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
        return pki.is_issued_by(self.certificate, self.authority)

    def bundle_pem(self) -> bytes:
        """The authorities that a caller is to trust."""
        return b"".join(map(pki.certificate_pem, self.bundle))

    def serving_pem(self) -> bytes:
        """Key and certificate in one text, as `ssl.SSLContext.load_cert_chain` takes them."""
        return pki.key_pem(self.key) + pki.certificate_pem(self.certificate)

    def encode(self) -> dict[str, bytes]:
        """As the data of a Secret."""
        return {
            CA_BUNDLE: self.bundle_pem(),
            CA_KEY: pki.key_pem(self.authority_key),
            CHAIN: pki.certificate_pem(self.certificate),
            KEY: pki.key_pem(self.key),
        }


def decode(data: Mapping[str, bytes]) -> Material:
    """What `encode` made. Raises `MaterialError`."""
    try:
        bundle = tuple(x509.load_pem_x509_certificates(data[CA_BUNDLE]))
        certificate = x509.load_pem_x509_certificate(data[CHAIN])
        authority_key, key = pki.load_key(data[CA_KEY]), pki.load_key(data[KEY])
    except KeyError as error:
        raise MaterialError(f"{error} is missing") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise MaterialError("not readable as PEM") from error
    if not bundle or not Pair(bundle[0], authority_key).belong() or not Pair(certificate, key).belong():
        raise MaterialError("keys and certificates do not belong together")
    if not any(pki.is_issued_by(certificate, authority) for authority in bundle):
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
    if now >= pki.two_thirds(material.authority):
        material, settled = _new_authority(material, now=now, lifetimes=lifetimes), False
    wanted = not material.is_newest or now >= pki.two_thirds(material.certificate)
    if pki.names_of(material.certificate) != set(names) or now >= material.certificate.not_valid_after_utc:
        wanted = settled = True  # it is of no use as it is
    if wanted and settled:
        authority = Pair(material.authority, material.authority_key)
        made = _serving(authority, names, now=now, lifetimes=lifetimes)
        material = replace(material, certificate=made.certificate, key=made.key)
    valid = tuple(one for one in material.bundle if now < one.not_valid_after_utc)
    return material if valid == material.bundle else replace(material, bundle=valid)


def next_due(material: Material) -> datetime:
    """When `advance` has something to do next, but for a new authority's settling."""
    return min(pki.two_thirds(material.authority), pki.two_thirds(material.certificate))


def fingerprint(certificate: x509.Certificate) -> bytes:
    """Tells certificates apart."""
    return certificate.fingerprint(hashes.SHA256())


def _begin(
    names: tuple[str, ...], *, now: datetime, lifetimes: Lifetimes, known: tuple[x509.Certificate, ...]
) -> Material:
    authority = _authority(now=now, lifetimes=lifetimes)
    made = _serving(authority, names, now=now, lifetimes=lifetimes)
    valid = tuple(one for one in known if now < one.not_valid_after_utc)
    bundle = (authority.certificate, *valid)
    return Material(bundle=bundle, authority_key=authority.key, certificate=made.certificate, key=made.key)


def _new_authority(material: Material, *, now: datetime, lifetimes: Lifetimes) -> Material:
    made = _authority(now=now, lifetimes=lifetimes)
    return replace(material, bundle=(made.certificate, *material.bundle), authority_key=made.key)


def _authority(*, now: datetime, lifetimes: Lifetimes) -> Pair:
    return pki.new_authority("isthmus webhook authority", now=now, life=lifetimes.authority, leeway=lifetimes.leeway)


def _serving(signer: Pair, names: tuple[str, ...], *, now: datetime, lifetimes: Lifetimes) -> Pair:
    life, leeway = lifetimes.serving, lifetimes.leeway
    return pki.issue(signer, "isthmus webhook", names=names, usage=pki.SERVER, now=now, life=life, leeway=leeway)
