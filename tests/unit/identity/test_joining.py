"""What lets a consumer in: kept if it is of use, whoever it comes from."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from api.authentication.identity import Identity, IdentitySpec
from identity import names, sealing
from identity.consumer.joining import Joining
from identity.consumer.keyring import Keyring
from identity.keys import PrivateKey
from identity.problems import RefusedError
from kube.objects import Metadata, Secret

KEY, OTHER = PrivateKey.generate(), PrivateKey.generate()
USER = names.join_user("shop", KEY.digest())
ACCOUNT = names.account_user("isthmus-shop", names.join_account(KEY.digest()))


class Secrets:
    """An API server with Secrets."""

    def __init__(self) -> None:
        self.data: dict[str, str] = {}

    async def find(self, _resource: Any, *, name: str, **_: Any) -> Secret | None:
        return Secret(metadata=Metadata(name=name), data=self.data) if self.data else None

    async def patch(self, _resource: Any, body: Any, **_: Any) -> None:
        self.data.update(body["data"])


def certificate(key: PrivateKey = KEY, user: str = USER) -> str:
    """A certificate by its own key: only its key and name are looked at here, the rest is for the API server."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, user)])
    at = datetime(2026, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder(
        name, name, key.raw.public_key(), x509.random_serial_number(), at, at + timedelta(days=1)
    ).sign(key.raw, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def token(text: str, key: PrivateKey = KEY, purpose: str = ACCOUNT) -> str:
    return sealing.seal(text, key.raw.public_key(), purpose=purpose)


def identity(**spec: Any) -> Identity:
    return Identity(metadata=Metadata(name="north"), spec=IdentitySpec(**spec))


@pytest.fixture
def secrets() -> Secrets:
    return Secrets()


@pytest.fixture
def joining(secrets: Any) -> Joining:
    return Joining(Keyring(secrets, namespace="isthmus"), consumer_id="shop")


async def test_what_the_provider_made_anew_is_kept_beside_the_key(joining: Joining, secrets: Secrets) -> None:
    entry = {"certificate": certificate()}
    await joining.keep(identity(certificate=certificate()), KEY, entry)
    assert json.loads(base64.b64decode(secrets.data["joining.json"])) == entry
    kept = await joining.kept(identity(), KEY)
    assert kept is not None
    assert (kept.user, kept.certificate) == (USER, entry["certificate"])
    assert "PRIVATE KEY" in kept.key
    assert "PRIVATE KEY" not in repr(kept)


async def test_a_token_is_kept_sealed(joining: Joining, secrets: Secrets) -> None:
    await joining.keep(identity(), KEY, {"sealedToken": token("treasure")})
    assert "treasure" not in base64.b64decode(secrets.data["joining.json"]).decode()
    kept = await joining.kept(identity(), KEY)
    assert kept is not None
    assert (kept.user, kept.token) == (ACCOUNT, "treasure")


@pytest.mark.parametrize(
    "entry",
    [
        {"certificate": certificate(OTHER)},
        {"certificate": certificate(user="system:admin")},
        {"certificate": "nonsense"},
        {"sealedToken": token("x", OTHER)},
        {"sealedToken": token("x", purpose="another account")},
        {"sealedToken": "nonsense"},
        {},
    ],
)
async def test_what_is_of_no_use_is_not_kept(joining: Joining, secrets: Secrets, entry: dict[str, str]) -> None:
    await joining.keep(identity(), KEY, {"certificate": (good := certificate())})
    await joining.keep(identity(), KEY, entry)
    kept = await joining.kept(identity(), KEY)
    assert kept is not None
    assert kept.certificate == good


async def test_what_the_identity_holds_is_not_kept_again(joining: Joining, secrets: Secrets) -> None:
    given = certificate()
    await joining.keep(identity(certificate=given), KEY, {"certificate": given})
    assert secrets.data == {}
    assert joining.given(identity(certificate=given), KEY).certificate == given


async def test_what_was_kept_for_a_key_that_was_replaced_is_left(joining: Joining) -> None:
    await joining.keep(identity(), KEY, {"certificate": certificate()})
    assert await joining.kept(identity(), OTHER) is None


async def test_a_secret_that_somebody_spoiled_is_as_none(joining: Joining, secrets: Secrets) -> None:
    for spoiled in ("%", base64.b64encode(b"[]").decode(), base64.b64encode(b'{"certificate": 1}').decode()):
        secrets.data["joining.json"] = spoiled
        assert await joining.kept(identity(), KEY) is None


def test_an_identity_without_a_credential_says_what_to_do(joining: Joining) -> None:
    with pytest.raises(RefusedError, match="apply our Tenant"):
        joining.given(identity(), KEY)
    with pytest.raises(RefusedError) as caught:
        joining.given(identity(certificate=certificate(OTHER)), KEY)
    assert caught.value.reason == "KeyMismatch"
