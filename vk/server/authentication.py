"""Who calls: a client certificate of the consumer's client CA, else a bearer token its API server knows.

As the kubelet does it (x509 before token, TokenReview cached for two minutes), with nobody anonymous. The chain of a
certificate is verified in the TLS handshake; here its purpose and validity are checked and its subject is read:
common name = user, organisations = groups.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import structlog
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kube.errors import KubeError
from kube.resources import TOKEN_REVIEWS, Resource
from vk.server.cache import ExpiringCache

log = structlog.get_logger(__name__)

ACCEPTED_LIFETIME: Final = 120.0
"""Seconds for which an accepted token is not asked about again, as the kubelet's authentication.webhook.cacheTTL."""
REFUSED_LIFETIME: Final = 10.0
"""Seconds for which a refused token is not asked about again: short, for a token may become good, but no flood."""
AUTHENTICATED: Final = "system:authenticated"

_MAX_TOKEN: Final = 16_384
_MAX_REVIEWS: Final = 32
_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/=-]+) *\Z", re.IGNORECASE | re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True)
class User:
    """An authenticated caller, as a SubjectAccessReview describes one."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @classmethod
    def authenticated(cls, name: str, *, groups: Sequence[str], **more: Any) -> User:
        """A user with the group that every authenticated user has."""
        return cls(name=name, groups=tuple(dict.fromkeys([*groups, AUTHENTICATED])), **more)


@dataclasses.dataclass(frozen=True, slots=True)
class Certificate:
    """What a verified client certificate says."""

    user: User
    not_before: datetime.datetime
    not_after: datetime.datetime

    def current(self, now: datetime.datetime) -> bool:
        """Whether it is valid now: connections live longer than their handshake."""
        return self.not_before <= now <= self.not_after


class Creator(Protocol):
    """The part of `kube.client.Client` that reviews need."""

    async def create(self, resource: Resource, body: Any, /) -> Any:
        """POST an object and return the server's answer."""
        ...


def read_certificate(der: bytes) -> Certificate | None:
    """The user a chain-verified certificate stands for; None if it isn't one for clients or names nobody."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = [str(a.value) for a in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        groups = [str(a.value) for a in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return None
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usages and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in usages:
        return None
    if len(names) != 1 or not names[0]:
        return None
    return Certificate(
        user=User.authenticated(names[0], groups=groups),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def bearer_token(authorization: Sequence[str]) -> str | None:
    """The token of the Authorization header lines; None if there is not exactly one well-formed one."""
    if len(authorization) != 1 or len(authorization[0]) > _MAX_TOKEN:
        return None
    match = _BEARER.match(authorization[0])
    return match[1] if match else None


class Authenticator:
    """Identifies callers; one per server."""

    def __init__(self, client: Creator, *, capacity: int = 1024, timeout: float = 10.0) -> None:
        self._client = client
        self._timeout = timeout
        self._pepper = secrets.token_bytes(32)
        self._users: ExpiringCache[bytes, User | None] = ExpiringCache(capacity=capacity)
        self._slots = asyncio.Semaphore(_MAX_REVIEWS)

    async def authenticate(self, certificate: Certificate | None, *, authorization: Sequence[str]) -> User | None:
        """The caller, or None. Never raises for a credential it can't verify: that is None too (fail closed)."""
        if certificate is not None and certificate.current(datetime.datetime.now(datetime.UTC)):
            return certificate.user
        token = bearer_token(authorization)
        if token is None:
            return None
        key = hashlib.blake2b(token.encode(), key=self._pepper).digest()
        try:
            return await self._users.get(key, load=lambda: self._review(token))
        except (KubeError, TimeoutError) as error:
            log.warning("token review failed", error=type(error).__name__)
            return None

    async def _review(self, token: str) -> tuple[User | None, float]:
        body = {"apiVersion": TOKEN_REVIEWS.api_version, "kind": TOKEN_REVIEWS.kind, "spec": {"token": token}}
        async with asyncio.timeout(self._timeout), self._slots:
            review = await self._client.create(TOKEN_REVIEWS, body)
        user = _reviewed_user(review)
        return user, ACCEPTED_LIFETIME if user else REFUSED_LIFETIME


def _reviewed_user(review: Any) -> User | None:
    """The user of a TokenReview's answer; anything but a clear yes with a name is None."""
    status = review.get("status") if isinstance(review, Mapping) else None
    if not isinstance(status, Mapping) or status.get("authenticated") is not True or status.get("error"):
        return None
    user = status.get("user") or {}
    name = user.get("username")
    if not isinstance(name, str) or not name:
        return None
    extra = tuple((key, tuple(values)) for key, values in sorted((user.get("extra") or {}).items()))
    return User.authenticated(name, groups=user.get("groups") or (), uid=user.get("uid") or "", extra=extra)
