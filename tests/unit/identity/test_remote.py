"""The consumer at the provider's API: what it takes of an answer."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from api.authentication.credential_request import CredentialRequest
from identity.consumer.remote import Remote
from identity.keys import PrivateKey
from identity.problems import PendingError, RefusedError
from kube.objects import ConfigMap, Metadata

USER = "isthmus:shop:0123456789abcdef"
KEY, PENDING = PrivateKey.generate(), PrivateKey.generate()
AUTHORITY = ec.generate_private_key(ec.SECP256R1())


def signed(csr: str) -> str:
    """A certificate for a request, as a signer makes it."""
    request = x509.load_pem_x509_csr(csr.encode())
    at = datetime(2026, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder(
        x509.Name([]), request.subject, request.public_key(), x509.random_serial_number(), at, at + timedelta(days=1)
    ).sign(AUTHORITY, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


class Provider:
    """An API server with one kind, and a manager that answers at once when told how."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}
        self.calls_us = USER

    async def find(self, _resource: Any, *, name: str, **_: Any) -> CredentialRequest | None:
        return msgspec.convert(self.asked[name], CredentialRequest) if name in self.asked else None

    async def get(self, _resource: Any, **_: Any) -> ConfigMap:
        return ConfigMap(metadata=Metadata(name="isthmus-tenant"), data={"user": self.calls_us, "state": "Active"})

    async def create(self, _resource: Any, body: Any, **_: Any) -> CredentialRequest:
        self.asked[body["metadata"]["name"]] = body
        return msgspec.convert(body, CredentialRequest)

    async def delete(self, _resource: Any, *, name: str, **_: Any) -> None:
        del self.asked[name]

    def answer(self, *, issued: str, expires: str) -> None:
        (asked,) = self.asked.values()
        condition = {"type": "Issued", "status": "True", "reason": "Issued", "lastTransitionTime": issued}
        certificate = signed(asked["spec"]["certificateRequest"])
        asked["status"] = {"conditions": [condition], "certificate": certificate, "expires": expires}


@pytest.fixture
def provider() -> Provider:
    return Provider()


def remote(provider: Any) -> Remote:
    return Remote(provider, namespace="isthmus-shop", consumer_id="shop")


async def test_f22_a_credentials_life_is_reckoned_by_the_clock_of_who_issued_it(provider: Provider) -> None:
    """Years apart from ours: no credential is due at once, for ever."""
    with pytest.raises(PendingError):
        await remote(provider).ask(USER, key=KEY, pending=PENDING)
    provider.answer(issued="2031-01-01T00:00:00Z", expires="2031-01-02T00:00:00Z")
    issued = await remote(provider).ask(USER, key=KEY, pending=PENDING)
    assert issued.life == timedelta(days=1)
    assert issued.proof.user == USER
    assert provider.asked == {}


async def test_a_credential_that_was_over_when_it_was_issued_is_refused(provider: Provider) -> None:
    with pytest.raises(PendingError):
        await remote(provider).ask(USER, key=KEY, pending=PENDING)
    provider.answer(issued="2031-01-01T00:00:00Z", expires="2030-12-31T00:00:00Z")
    with pytest.raises(RefusedError, match="was over"):
        await remote(provider).ask(USER, key=KEY, pending=PENDING)
    assert provider.asked == {}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "system:admin",
        "isthmus:other:0123456789abcdef",
        "isthmus:shop:key:0123456789abcdef",
        "isthmus:shop:0123456789abcdef0",
        "isthmus:shop:0123456789abcdef\n",
        "system:serviceaccount:kube-system:tenant-0123456789abcdef",
        "system:serviceaccount:isthmus-shop:default",
    ],
)
async def test_a37_no_provider_has_us_ask_under_another_name(provider: Provider, name: str) -> None:
    assert (await remote(provider).info()).user == USER
    provider.calls_us = name
    with pytest.raises(RefusedError) as caught:
        await remote(provider).info()
    assert caught.value.reason == "BadProvider"
