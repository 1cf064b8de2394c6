"""Getting, keeping and renewing the serving certificate while the signer and the API server misbehave."""

import asyncio
import base64
import datetime
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from prometheus_client import CollectorRegistry

from kube.backoff import Backoff
from kube.client import Client
from tests.unit.vk_node.fakeapi import FakeApi, Json, refusal, serving
from tests.unit.vk_node.tasks import running, until
from tests.unit.vk_node.test_csr import NAMES, issue
from vk.node import certificate
from vk.node.certificate import CertificateFiles, CertificateManager
from vk.node.clock import Clock
from vk.node.csr import Key, Names
from vk.node.signals import Condition

_REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
_HOUR = datetime.timedelta(hours=1)


class Signer:
    """What approver and signer together do to a request; by default nothing."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.lifetime = _HOUR
        api.on_create = self.create
        self.prompt = False
        self.names: list[x509.GeneralName] | None = None

    def create(self, body: Json) -> None:
        if self.prompt:
            body["status"] = self._signed(body)

    def sign_all(self) -> None:
        for path, body in list(self.api.objects.items()):
            if not body.get("status"):
                self.api.put(path, body | {"status": self._signed(body)})

    def _signed(self, body: Json) -> Json:
        request = base64.b64decode(body["spec"]["request"])
        chain = issue(request, start=_now(), lifetime=self.lifetime, names=self.names)
        return {"conditions": [{"type": "Approved"}], "certificate": base64.b64encode(chain).decode()}


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[tuple[FakeApi, Client]]:
    async with serving(tmp_path) as pair:
        yield pair


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate, "Backoff", lambda **_: Backoff(base=0.05, maximum=0.2))
    monkeypatch.setattr(certificate, "FILE_SECONDS", 0.02)
    monkeypatch.setattr(certificate, "PENDING_SECONDS", 0.0)


def _manager(client: Client, folder: Path, *, names: Names = NAMES) -> CertificateManager:
    return CertificateManager(client, names=names, state=folder / "state", registry=CollectorRegistry())


def _condition(manager: CertificateManager | CertificateFiles) -> Condition:
    assert manager.condition is not None
    return manager.condition


async def test_issued_after_approval(fake: tuple[FakeApi, Client], tmp_path: Path) -> None:
    api, client = fake
    signer, manager = Signer(api), _manager(client, tmp_path)
    async with running(manager.run):
        await until(lambda: manager.condition is not None)
        assert (_condition(manager).status, _condition(manager).reason) == ("False", "Pending")
        assert "kubectl certificate approve isthmus-serving-" in _condition(manager).message
        signer.sign_all()
        async with asyncio.timeout(20):
            await manager.ready()
        assert (_condition(manager).status, _condition(manager).reason) == ("True", "Issued")
        manager.serve(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    (body,) = api.objects.values()
    assert body["spec"]["signerName"] == "kubernetes.io/kubelet-serving"
    assert body["spec"]["usages"] == ["digital signature", "server auth"]


async def test_a_restart_goes_on_with_the_same_request_and_then_with_the_same_pair(
    fake: tuple[FakeApi, Client], tmp_path: Path
) -> None:
    api, client = fake
    signer = Signer(api)
    async with running(_manager(client, tmp_path).run):
        await until(lambda: len(api.objects) == 1)
    second = _manager(client, tmp_path)
    async with running(second.run):
        await until(lambda: api.count("POST", _REQUESTS) == 2)
        signer.sign_all()
        await second.ready()
    assert len(api.objects) == 1
    third = _manager(client, tmp_path)
    async with running(third.run):
        await third.ready()
    assert api.count("POST", _REQUESTS) == 2


async def test_a_stored_pair_for_other_addresses_is_not_used(fake: tuple[FakeApi, Client], tmp_path: Path) -> None:
    api, client = fake
    Signer(api).prompt = True
    first = _manager(client, tmp_path)
    async with running(first.run):
        await first.ready()
    moved = Names(node="vk-1", addresses=("198.18.0.99",))
    second = _manager(client, tmp_path, names=moved)
    async with running(second.run):
        await second.ready()
    assert len(api.objects) == 2


async def test_f25_renewed_before_its_end_and_the_old_one_is_served_until_then(
    fake: tuple[FakeApi, Client], tmp_path: Path
) -> None:
    api, client = fake
    signer, manager = Signer(api), _manager(client, tmp_path)
    signer.prompt, signer.lifetime = True, datetime.timedelta(seconds=4)
    async with running(manager.run):
        await manager.ready()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        manager.serve(context)
        first = manager.pair
        signer.prompt = False
        await until(lambda: len(api.objects) == 2)
        await until(lambda: _condition(manager).reason == "RenewalPending")
        assert manager.pair is first, "the old one stays until the new one is there"
        assert _condition(manager).status == "True"
        await until(lambda: _condition(manager).reason == "Expired")
        signer.lifetime = _HOUR
        signer.sign_all()
        await until(lambda: _condition(manager).reason == "Issued")
        assert manager.pair is not None
        assert first is not None
        assert manager.pair.leaf.serial_number != first.leaf.serial_number


async def test_f22_a_clock_far_ahead_makes_no_loop_of_requests(fake: tuple[FakeApi, Client], tmp_path: Path) -> None:
    api, client = fake
    Signer(api).prompt = True
    ahead = Clock(now=lambda: datetime.datetime.now(datetime.UTC) + 0.95 * _HOUR)
    manager = CertificateManager(client, names=NAMES, state=tmp_path, clock=ahead, registry=CollectorRegistry())
    async with running(manager.run):
        await manager.ready()
        await asyncio.sleep(0.3)
    assert len(api.objects) == 1


async def test_denied_is_told_and_asked_again_with_a_new_key(fake: tuple[FakeApi, Client], tmp_path: Path) -> None:
    api, client = fake
    denied = {"conditions": [{"type": "Denied", "reason": "Policy", "message": "address is not yours"}]}
    api.on_create = lambda body: body.update(status=denied)
    manager = _manager(client, tmp_path)
    async with running(manager.run):
        await until(lambda: len(api.objects) >= 2)
        assert (_condition(manager).status, _condition(manager).reason) == ("False", "Refused")
        assert "address is not yours" in _condition(manager).message
        Signer(api).prompt = True
        async with asyncio.timeout(20):
            await manager.ready()
    keys = {_public_key(body) for body in api.objects.values()}
    assert len(keys) == len(api.objects)


def _public_key(body: Json) -> bytes:
    key = x509.load_pem_x509_csr(base64.b64decode(body["spec"]["request"])).public_key()
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


async def test_a_certificate_for_another_key_is_never_installed(fake: tuple[FakeApi, Client], tmp_path: Path) -> None:
    api, client = fake
    wrong = base64.b64encode(issue(Key.generate().request(NAMES), start=_now())).decode()
    api.on_create = lambda body: body.update(status={"certificate": wrong})
    manager = _manager(client, tmp_path)
    async with running(manager.run):
        await until(lambda: manager.condition is not None)
        assert "another key" in _condition(manager).message
        assert manager.pair is None


async def test_a_certificate_for_other_names_is_never_installed(fake: tuple[FakeApi, Client], tmp_path: Path) -> None:
    api, client = fake
    signer, manager = Signer(api), _manager(client, tmp_path)
    signer.prompt, signer.names = True, [x509.DNSName("vk-1.example"), x509.DNSName("kubernetes.default")]
    async with running(manager.run):
        await until(lambda: manager.condition is not None)
        assert "kubernetes.default" in _condition(manager).message
        assert "198.18.0.7" in _condition(manager).message
        assert manager.pair is None


async def test_a_request_that_was_removed_is_made_again(fake: tuple[FakeApi, Client], tmp_path: Path) -> None:
    """The control plane removes requests that nobody approved for a day."""
    api, client = fake
    signer, manager = Signer(api), _manager(client, tmp_path)
    async with running(manager.run):
        await until(lambda: len(api.objects) == 1)
        signer.prompt = True
        api.remove(next(iter(api.objects)))
        async with asyncio.timeout(20):
            await manager.ready()


async def test_f1_an_api_server_that_comes_and_goes_is_borne(fake: tuple[FakeApi, Client], tmp_path: Path) -> None:
    api, client = fake
    signer, manager = Signer(api), _manager(client, tmp_path)
    api.fault = lambda _request: refusal(500, "InternalError")
    async with running(manager.run):
        await until(lambda: _condition_reason(manager) == "RequestFailed", seconds=20)
        api.fault = None
        await until(lambda: len(api.objects) == 1, seconds=20)

        def broken(request: web.Request) -> web.Response | None:
            return web.Response(text="<html>", status=502) if request.method == "GET" else None

        api.fault = broken
        signer.sign_all()
        api.fault = None
        async with asyncio.timeout(20):
            await manager.ready()
    assert len(api.objects) == 1


def _condition_reason(manager: CertificateManager) -> str:
    return manager.condition.reason if manager.condition else ""


async def test_files_are_served_and_taken_up_when_they_change(tmp_path: Path) -> None:
    chain_file, key_file = tmp_path / "tls.crt", tmp_path / "tls.key"
    files = CertificateFiles(certificate=chain_file, key=key_file, registry=CollectorRegistry())
    async with running(files.run):
        await until(lambda: files.condition is not None)
        assert _condition(files).reason == "FilesUnusable"
        key = Key.generate()
        key_file.write_bytes(key.pem())
        chain_file.write_bytes(issue(key.request(NAMES), start=_now()))
        async with asyncio.timeout(20):
            await files.ready()
        files.serve(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        before = _condition(files)
        other = Key.generate()
        chain_file.write_bytes(issue(other.request(NAMES), start=_now(), lifetime=2 * _HOUR))
        await until(lambda: "another key" in _condition(files).message)
        key_file.write_bytes(other.pem())
        await until(lambda: _condition(files).status == "True")
        assert _condition(files) != before
