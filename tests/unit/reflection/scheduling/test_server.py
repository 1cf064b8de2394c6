"""The webhook's HTTPS server over real TLS: who gets an answer, what is bounded, and certificates that change."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp
import pytest
import trustme
from prometheus_client import CollectorRegistry

from reflection.scheduling import certificates, review
from reflection.scheduling.certificates import Lifetimes, Material
from reflection.scheduling.registration import PATH
from reflection.scheduling.review import Request
from reflection.scheduling.server import Identity, Limits, WebhookServer
from tests.unit.reflection.scheduling.test_review import body


def _material() -> Material:
    return certificates.advance(None, names=("127.0.0.1",), now=datetime.now(UTC), lifetimes=Lifetimes(), settled=False)


async def _allow(request: Request) -> bytes:
    return review.answer(request.uid)


@dataclass
class Served:
    server: WebhookServer
    identity: Identity
    material: Material
    registry: CollectorRegistry

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server.port}{PATH}"

    def context(self, client: trustme.LeafCert | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.material.bundle_pem().decode())
        if client is not None:
            client.configure_cert(context)
        return context

    def asked(self, code: int) -> float:
        return self.registry.get_sample_value("isthmus_webhook_requests_total", {"code": str(code)}) or 0.0


@asynccontextmanager
async def _served(
    answer: object = _allow, *, limits: Limits | None = None, client_ca: bytes | None = None
) -> AsyncIterator[Served]:
    identity, registry, material = Identity(client_ca=client_ca), CollectorRegistry(), _material()
    identity.load(material.serving_pem())
    server = WebhookServer(
        answer,  # type: ignore[arg-type]  # a test's double
        host="127.0.0.1",
        port=0,
        identity=identity,
        limits=limits,
        registry=registry,
    )
    task = asyncio.create_task(server.run())
    try:
        async with asyncio.timeout(10):
            await server.ready()
        yield Served(server, identity, material, registry)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def _session(context: ssl.SSLContext) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        yield session


_REVIEW = json.dumps(body()).encode()
_JSON = {"Content-Type": "application/json"}


async def _status(served: Served, context: ssl.SSLContext) -> int:
    """What a caller with a connection of its own gets for a good review."""
    async with _session(context) as session, session.post(served.url, data=_REVIEW, headers=_JSON) as response:
        return response.status


async def test_a_review_is_answered_over_a_kept_connection() -> None:
    async with _served() as served, _session(served.context()) as session:
        for _ in range(2):
            async with session.post(served.url, data=_REVIEW, headers=_JSON) as response:
                assert (await response.json())["response"] == {"uid": "u1", "allowed": True}
                assert response.headers["Server"] == "isthmus"
        assert served.asked(200) == 2


@pytest.mark.parametrize(
    ("method", "path", "data", "headers", "status"),
    [
        ("GET", PATH, b"", {}, 400),
        ("POST", "/", _REVIEW, _JSON, 404),
        ("POST", PATH, _REVIEW, {"Content-Type": "text/plain"}, 400),
        ("POST", PATH, b"{}", _JSON, 400),
        ("POST", PATH, b"\x1f\x8b\x08\x00", {**_JSON, "Content-Encoding": "gzip"}, 400),
        ("POST", PATH, b"x" * 5000, _JSON, 413),
    ],
)
async def test_a_strange_request_is_refused(
    method: str, path: str, data: bytes, headers: dict[str, str], status: int
) -> None:
    async with _served(limits=Limits(body=4096)) as served, _session(served.context()) as session:
        url = served.url.removesuffix(PATH) + path
        async with session.request(method, url, data=data, headers=headers) as response:
            assert response.status == status
        assert served.asked(status) == 1


async def test_a_body_of_unknown_length_is_cut_off() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 1024

    async with _served(limits=Limits(body=4096)) as served, _session(served.context()) as session:
        with suppress(aiohttp.ClientError):  # the answer may be overtaken by the reset
            async with session.post(served.url, data=endless(), headers=_JSON) as response:
                assert response.status == 413
        async with session.post(served.url, data=_REVIEW, headers=_JSON) as response:
            assert response.status == 200


async def test_a_body_that_does_not_come_holds_no_slot() -> None:
    async def stuck() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with _served(limits=Limits(concurrency=1, seconds=0.3)) as served, _session(served.context()) as session:
        async with session.post(served.url, data=stuck(), headers=_JSON) as response:
            assert response.status == 503
        async with session.post(served.url, data=_REVIEW, headers=_JSON) as response:
            assert response.status == 200


async def test_an_answer_that_takes_too_long_is_given_up() -> None:
    async def never(_request: Request) -> bytes:
        await asyncio.Event().wait()
        return b""

    async with _served(never, limits=Limits(seconds=0.2)) as served:
        assert await _status(served, served.context()) == 503


async def test_one_source_cannot_take_all_connections() -> None:
    async with _served(limits=Limits(connections_of_one=2)) as served:
        context = served.context()
        held = [await asyncio.open_connection("127.0.0.1", served.server.port, ssl=context) for _ in range(2)]
        reader, writer = await asyncio.open_connection("127.0.0.1", served.server.port, ssl=context)
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.transport.abort()
        for _reader, one in held:
            one.close()
            await one.wait_closed()
        assert await _status(served, context) == 200


async def test_a_new_certificate_is_shown_to_new_connections_and_old_ones_go_on() -> None:
    async with _served() as served, _session(served.context()) as session:
        async with session.post(served.url, data=_REVIEW, headers=_JSON) as response:
            assert response.status == 200
        other = _material()
        served.identity.load(other.serving_pem())
        async with session.post(served.url, data=_REVIEW, headers=_JSON) as response:
            assert response.status == 200  # the connection from before
        strict = ssl.create_default_context(cadata=other.bundle_pem().decode())
        assert await _status(served, strict) == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await _status(served, served.context())


async def test_an_unusable_certificate_leaves_the_old_one() -> None:
    async with _served() as served:
        with pytest.raises(ssl.SSLError):
            served.identity.load(b"junk")
        assert await _status(served, served.context()) == 200


async def test_where_api_servers_identify_themselves_nobody_else_gets_in() -> None:
    authority = trustme.CA()
    trusted, stranger = authority.issue_cert("api"), trustme.CA().issue_cert("api")
    async with _served(client_ca=authority.cert_pem.bytes()) as served:
        assert await _status(served, served.context(trusted)) == 200
        for certificate in (None, stranger):
            with pytest.raises((aiohttp.ClientError, ConnectionError)):
                await _status(served, served.context(certificate))
        assert served.asked(200) == 1
