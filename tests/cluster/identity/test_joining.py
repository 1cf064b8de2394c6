"""A consumer whose Identity holds a credential of long ago comes back, by what the provider made anew meanwhile."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from identity import names
from identity.keys import PrivateKey
from tests.cluster.identity.conftest import LONG, Peering
from tests.cluster.identity.test_life import dead, state
from tests.kubectl import eventually

Json = dict[str, Any]


def key_secret(peering: Peering) -> dict[str, str]:
    data: dict[str, str] = peering.consumer.get("secret", f"identity-{peering.name}")["data"]
    return data


def overdue(peering: Peering) -> None:
    """As if two thirds of the joining credential's life were over: the provider makes another one."""
    patch = json.dumps({"status": {"renewAfter": "2020-01-01T00:00:00Z"}})
    peering.provider.run("patch", "tenant", "shop", "--subresource=status", "--type=merge", "-p", patch)


def worthless(peering: Peering) -> str:
    """A certificate of the right key and name that no authority of the provider vouches for, as one that is over."""
    key = PrivateKey.load(base64.b64decode(key_secret(peering)["identity.key"]))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names.join_user("shop", key.digest()))])
    at = datetime.now(UTC) - timedelta(days=31)
    made = x509.CertificateBuilder(
        name, name, key.raw.public_key(), x509.random_serial_number(), at, at + timedelta(days=30)
    ).sign(key.raw, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def test_the_credential_to_join_with_is_renewed_without_anybody_editing_a_file(peering: Peering) -> None:
    answer = yaml.safe_load(peering.answer(peering.ask()))
    user = peering.enter(json.dumps(answer))["status"]["user"]
    assert "joining.json" not in key_secret(peering)
    overdue(peering)
    renewed = peering.provider.wait_for(
        "tenant",
        "shop",
        lambda it: yaml.safe_load(it["status"]["identity"])["spec"]["certificate"] != answer["spec"]["certificate"],
        what="another manifest",
        timeout=LONG,
    )
    wanted = yaml.safe_load(renewed["status"]["identity"])["spec"]["certificate"]

    def kept() -> bool:
        peering.look()
        text = key_secret(peering).get("joining.json", "")
        return bool(text) and json.loads(base64.b64decode(text))["certificate"] == wanted

    eventually(kept, what="the next one to be kept", timeout=LONG, every=1)
    answer["spec"]["certificate"] = worthless(peering)
    peering.consumer.apply(answer)
    working = peering.credential()
    state(peering, "Drained")  # ends what the consumer works with, so that it has to join again
    eventually(lambda: dead(working), what="a drained tenant to have no rights", timeout=LONG)
    peering.look()
    state(peering, "Active")
    assert peering.ready(user=user)["status"]["user"] != user
