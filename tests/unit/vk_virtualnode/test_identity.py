"""A client certificate's life where its signer, or the cluster's authority, does not do as usual."""

import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kube.client import Client
from kube.errors import ApiError
from kube.objects import Secret
from kube.resources import SECRETS, Resource
from tests.unit.vk_virtualnode.conftest import virtual_node
from vk.node.objects import Csr
from vk.virtualnode.identity import Identities, IdentityPending, IdentityRefused
from vk.virtualnode.settings import VirtualNodeSettings

SETTINGS = VirtualNodeSettings(image="i", consumer_id="lab", server="https://c:6443", ca=b"first")
LIFE = timedelta(days=30)
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
NODE = virtual_node()


@dataclass
class Cluster:
    """Stands for a Client: a Secret, requests, and a signer in one of three moods."""

    mood: str = "signs"
    secret: dict[str, str] = field(default_factory=dict)
    requests: dict[str, Any] = field(default_factory=dict)
    now: datetime = BEGAN
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    async def find(self, _resource: Resource, *, name: str, **_where: Any) -> Secret | None:
        return msgspec.convert({"metadata": {"name": name}, "data": self.secret}, Secret) if self.secret else None

    async def get(self, _resource: Resource, *, name: str, decode: Any = dict, **_where: Any) -> Any:
        if name not in self.requests:
            raise ApiError(status=404)
        return msgspec.convert(self.requests[name], decode) if decode is Csr else self.requests[name]

    async def create(self, resource: Resource, body: Any, *, decode: Any = dict, **_where: Any) -> Any:
        if resource is SECRETS:
            self.secret = dict(body["data"])
            return body
        made = {**body, "status": {}}
        if self.mood == "denies":
            made["status"]["conditions"] = [{"type": "Denied", "message": "not today"}]
        self.requests[body["metadata"]["name"]] = made
        return msgspec.convert(made, decode)

    async def replace(self, _resource: Resource, body: Any, *, name: str, **_where: Any) -> None:
        self.requests[name] = body
        if self.mood == "signs":
            body["status"]["certificate"] = base64.b64encode(
                self._sign(base64.b64decode(body["spec"]["request"]))
            ).decode()

    async def patch(self, _resource: Resource, body: Any, **_where: Any) -> None:
        if not self.secret:
            raise ApiError(status=404)
        for key, value in body["data"].items():
            if value is None:
                self.secret.pop(key, None)
            else:
                self.secret[key] = value

    async def delete(self, _resource: Resource, *, name: str, **_where: Any) -> None:
        self.requests.pop(name)

    def _sign(self, pem: bytes) -> bytes:
        asked = x509.load_pem_x509_csr(pem)
        builder = x509.CertificateBuilder(
            issuer_name=asked.subject,
            subject_name=asked.subject,
            public_key=asked.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=self.now,
            not_valid_after=self.now + LIFE,
        )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    @property
    def kubeconfig(self) -> dict[str, Any]:
        """What the virtual kubelet has."""
        found: dict[str, Any] = msgspec.json.decode(base64.b64decode(self.secret["kubeconfig"]))
        return found


def identities(cluster: Cluster) -> Identities:
    return Identities(cast(Client, cluster), SETTINGS, now=lambda: cluster.now)


async def issued(cluster: Cluster) -> Identities:
    """Asked for, approved, and there at the second look."""
    made = identities(cluster)
    with pytest.raises(IdentityPending):
        await made.ensure(NODE)
    assert not (await made.ensure(NODE)).overdue
    return made


@pytest.mark.parametrize(
    ("mood", "says", "error"), [("silent", "not answered", IdentityPending), ("denies", "not today", IdentityRefused)]
)
async def test_f25_a_signer_that_is_away_for_days_costs_nothing_until_the_end(
    mood: str, says: str, error: type[Exception]
) -> None:
    cluster = Cluster()
    made = await issued(cluster)
    before = cluster.kubeconfig
    cluster.mood = mood
    cluster.now = BEGAN + LIFE * 0.6
    assert not (await made.ensure(NODE)).overdue
    cluster.now = BEGAN + LIFE * 0.7
    for _ in range(3):
        assert says in (await made.ensure(NODE)).overdue
    assert len(cluster.requests) <= 2, "one question, however often it is asked"
    assert cluster.kubeconfig == before, "in use until its successor is there"
    cluster.now = BEGAN + LIFE * 1.1
    with pytest.raises(error):
        await made.ensure(NODE)


async def test_f25_a_signer_that_comes_back_is_used() -> None:
    cluster = Cluster()
    made = await issued(cluster)
    before = cluster.kubeconfig
    cluster.mood, cluster.now = "denies", BEGAN + LIFE * 0.8
    assert (await made.ensure(NODE)).overdue
    cluster.mood = "signs"
    assert (await made.ensure(NODE)).overdue
    renewed = await made.ensure(NODE)
    assert not renewed.overdue
    assert renewed.ends == cluster.now + LIFE
    assert cluster.kubeconfig["users"] != before["users"]
    assert "pending.key" not in cluster.secret


async def test_f24_a_new_authority_reaches_the_virtual_kubelet_with_the_certificate_it_has() -> None:
    cluster = Cluster()
    await issued(cluster)
    before = cluster.kubeconfig
    authority = b"first"
    told = Identities(cast(Client, cluster), SETTINGS, now=lambda: cluster.now, authority=lambda: authority)
    await told.ensure(NODE)
    assert cluster.kubeconfig == before
    authority = b"second"
    await told.ensure(NODE)
    now = cluster.kubeconfig
    assert base64.b64decode(now["clusters"][0]["cluster"]["certificate-authority-data"]) == b"second"
    assert now["users"] == before["users"]
    assert now["clusters"][0]["cluster"]["server"] == SETTINGS.server
