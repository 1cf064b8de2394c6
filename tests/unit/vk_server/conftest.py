"""Fixtures: certificates, the consumer's reviews, a provider, pods, and a running server."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any, cast

import prometheus_client
import pytest
import pytest_asyncio
import trustme

from kube.client import Client
from kube.config import load
from kube.errors import TransportError
from tests.unit.vk_server.wire import Head, Provider, read_body, read_head
from vk.server.app import KubeletServer, ServerConfig
from vk.server.interfaces import LocatedPod, MeasuredPod, PodNotFoundError, RemotePod

NODE = "vn-1"
PROVIDER_TOKEN = "the-providers-token"
UID = "11111111-2222-3333-4444-555555555555"
REMOTE_UID = "99999999-2222-3333-4444-555555555555"


@dataclasses.dataclass
class Reviews:
    """The consumer's API server as far as reviews go."""

    tokens: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    allow: Callable[[dict[str, Any]], bool] = lambda _spec: True
    down: bool = False
    asked: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    async def create(self, resource: Any, body: Any) -> Any:
        if self.down:
            raise TransportError("down", sent=False)
        self.asked.append(body)
        if body["kind"] == "TokenReview":
            user = self.tokens.get(body["spec"]["token"])
            return {"status": {"authenticated": user is not None, "user": user or {}}}
        return {"status": {"allowed": self.allow(body["spec"])}}

    def attributes(self) -> list[tuple[str, str]]:
        """(verb, subresource) of the access reviews so far."""
        attributes = [b["spec"]["resourceAttributes"] for b in self.asked if b["kind"] == "SubjectAccessReview"]
        return [(a["verb"], a["subresource"]) for a in attributes]


class Pods:
    """A locator with one pod, which a test may change."""

    def __init__(self) -> None:
        remote = RemotePod("default-c1", "web", REMOTE_UID, frozenset({"app", "debugger"}), UID)
        self.pod: LocatedPod | None = LocatedPod("default", "web", UID, frozenset({"app", "debugger"}), remote)
        self.raw: list[bytes] = []
        self.running: list[bytes] = []
        self.measured: list[MeasuredPod] = []
        self.located = 0
        self.after: dict[int, LocatedPod | None] = {}
        """What the pod turns into at the n-th call."""

    def pods(self) -> Iterable[bytes]:
        return self.raw

    def running_pods(self) -> Iterable[bytes]:
        return self.running

    def measured_pods(self) -> Iterable[MeasuredPod]:
        return self.measured

    def locate(self, namespace: str, name: str, *, uid: str | None = None) -> LocatedPod:
        self.located += 1
        self.pod = self.after.get(self.located, self.pod)
        pod = self.pod
        if pod is None or (pod.namespace, pod.name) != (namespace, name) or (uid and pod.uid != uid):
            raise PodNotFoundError(name)
        return pod


@dataclasses.dataclass
class Pki:
    """Certificates of a consumer, and of somebody else."""

    ca: trustme.CA
    directory: Path

    def write(self, name: str, cert: trustme.LeafCert) -> tuple[Path, Path]:
        certificate, key = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in cert.cert_chain_pems))
        key.write_bytes(cert.private_key_pem.bytes())
        return certificate, key

    def client(self, cert: trustme.LeafCert | None = None) -> ssl.SSLContext:
        """A client's context that trusts the server, with a certificate of its own or none."""
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        if cert is not None:
            cert.configure_cert(context)
        return context


@dataclasses.dataclass
class Answer:
    """A response read to its end."""

    head: Head
    body: bytes

    @property
    def status(self) -> int:
        return self.head.status

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclasses.dataclass
class Kubelet:
    """The server under test and what is around it."""

    server: KubeletServer
    pods: Pods
    reviews: Reviews
    provider: Provider
    pki: Pki
    admin: ssl.SSLContext
    anonymous: ssl.SSLContext
    registry: prometheus_client.CollectorRegistry
    client: Client
    task: asyncio.Task[None]
    healthy: bool = True

    async def stop(self) -> None:
        """Stop the server, as its supervisor does."""
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    @contextlib.asynccontextmanager
    async def connect(
        self, tls: ssl.SSLContext | None = None
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.server.port, ssl=tls or self.admin, server_hostname="localhost", limit=2**20
        )
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def ask(
        self,
        target: str,
        *,
        method: str = "GET",
        headers: Iterable[tuple[str, str]] = (),
        tls: ssl.SSLContext | None = None,
    ) -> Answer:
        """One request on a connection of its own."""
        lines = [f"{method} {target} HTTP/1.1", "Host: kubelet", *(f"{k}: {v}" for k, v in headers)]
        return await self.send("\r\n".join([*lines, "", ""]).encode("latin-1"), tls=tls)

    async def send(self, raw: bytes, *, tls: ssl.SSLContext | None = None) -> Answer:
        async with asyncio.timeout(10), self.connect(tls) as (reader, writer):
            writer.write(raw)
            head = await read_head(reader)
            return Answer(head, await read_body(reader, head))

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


async def eventually(condition: Callable[[], bool], *, within: float = 20.0) -> None:
    """Wait until a condition holds."""
    deadline = asyncio.get_running_loop().time() + within
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "the condition does not come true"
        await asyncio.sleep(0.01)


SPDY = [
    ("Connection", "Upgrade"),
    ("Upgrade", "SPDY/3.1"),
    ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
    ("X-Stream-Protocol-Version", "v3.channel.k8s.io"),
]
WEBSOCKET = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Protocol", "v4.channel.k8s.io"),
]


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def pki(tmp_path: Path, authority: trustme.CA) -> Pki:
    return Pki(authority, tmp_path)


@pytest_asyncio.fixture
async def provider(pki: Pki) -> AsyncIterator[Provider]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pki.ca.issue_cert("127.0.0.1").configure_cert(tls)
    running = Provider(tls)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


@pytest_asyncio.fixture
async def client(provider: Provider, pki: Pki) -> AsyncIterator[Client]:
    """The real client, with the scripted provider as its API server."""
    ca = base64.b64encode(pki.ca.cert_pem.bytes()).decode()
    cluster = {"server": f"https://127.0.0.1:{provider.port}", "certificate-authority-data": ca}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": PROVIDER_TOKEN}}],
    }
    path = pki.directory / "provider.kubeconfig"
    path.write_text(json.dumps(config))
    credentials = await load(kubeconfig=str(path))
    async with Client.connect(credentials, name="provider") as connected:
        yield connected


Start = Callable[..., contextlib.AbstractAsyncContextManager[Kubelet]]


@pytest.fixture
def start(pki: Pki, provider: Provider, client: Client) -> Start:
    """Start a server with settings of the test's own."""
    certificate, key = pki.write("serving", pki.ca.issue_cert("localhost", "127.0.0.1"))
    ca = pki.directory / "ca.crt"
    ca.write_bytes(pki.ca.cert_pem.bytes())
    admin = pki.client(pki.ca.issue_cert("c@example.org", common_name="apiserver", organization_name="system:masters"))

    @contextlib.asynccontextmanager
    async def running(**settings: Any) -> AsyncIterator[Kubelet]:
        pods, reviews = Pods(), Reviews()
        registry = prometheus_client.CollectorRegistry()
        config = ServerConfig(
            node_name=NODE,
            host="127.0.0.1",
            port=0,
            **{"certificate_file": certificate, "key_file": key, "client_ca_file": ca, **settings},
        )
        state: list[Kubelet] = []
        server = KubeletServer(
            config,
            locator=pods,
            stats_source=pods,
            consumer=cast(Any, reviews),
            provider=client,
            registry=registry,
            healthy=lambda: state[0].healthy,
        )
        task = asyncio.create_task(server.run())
        ready = asyncio.create_task(server.ready())
        await asyncio.wait((task, ready), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        try:
            if not task.done():
                anonymous = pki.client()
                state.append(Kubelet(server, pods, reviews, provider, pki, admin, anonymous, registry, client, task))
                yield state[0]
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    return running


@pytest_asyncio.fixture
async def kubelet(start: Start) -> AsyncIterator[Kubelet]:
    async with start() as running:
        yield running
