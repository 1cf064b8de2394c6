"""Who is let in at all."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.unit.vk_server.conftest import SPDY, Kubelet, Pki, Start
from vk.server.authentication import Authenticator, Certificate, User, bearer_token, read_certificate
from vk.server.paths import ROUTES

EVERY_ROUTE = [
    *(f"/{route.name}" for route in ROUTES),
    "/pods",
    "/runningpods/",
    "/containerLogs/default/web/app",
    "/exec/default/web/app?command=id&output=1",
    "/attach/default/web/app?output=1",
    "/portForward/default/web",
    "/run/default/web/app?cmd=id",
    "/metrics/cadvisor",
    "/debug/pprof/",
    "/logs/",
    "/checkpoint/default/web/app",
    "/flagz",
    "/",
    "/nothing",
    "/%2e%2e/pods",
]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a1_no_route_answers_a_stranger(kubelet: Kubelet, method: str) -> None:
    for target in EVERY_ROUTE:
        answer = await kubelet.ask(target, method=method, headers=SPDY, tls=kubelet.anonymous)
        assert (answer.status, answer.text) == (401, "Unauthorized"), target
    assert kubelet.reviews.asked == []
    assert kubelet.provider.heads == []
    counted = kubelet.metric("isthmus_kubelet_http_requests_total", route="other", method=method, code="401")
    assert counted == len(EVERY_ROUTE)


async def test_a1_a_stranger_is_answered_without_asking_anybody_and_his_connection_closed(kubelet: Kubelet) -> None:
    """At once: the answer waits for neither a review nor the provider, whatever becomes of them."""
    kubelet.reviews.down = True
    async with asyncio.timeout(20), kubelet.connect(kubelet.anonymous) as (reader, writer):
        writer.write(b"GET /pods HTTP/1.1\r\nHost: k\r\n\r\n")
        await reader.readuntil(b"\r\n\r\nUnauthorized")
        assert await reader.read() == b""
    assert kubelet.reviews.asked == []
    assert kubelet.provider.heads == []


def certificate(pki: Pki, path: Path, *, usages: list[x509.ObjectIdentifier] | None, name: str = "eve") -> Path:
    """A client certificate of the right CA with extended key usages of the test's own; key and chain in one file."""
    ca_key = serialization.load_pem_private_key(pki.ca.private_key_pem.bytes(), None)
    ca = x509.load_pem_x509_certificate(pki.ca.cert_pem.bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else []))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
    )
    if usages is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    signed = builder.sign(ca_key, hashes.SHA256())  # type: ignore[arg-type]  # any key type signs
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + private)
    return path


async def refused(kubelet: Kubelet, tls: ssl.SSLContext) -> bool:
    """Whether a caller with this certificate gets no further than the handshake or a 401."""
    try:
        answer = await kubelet.ask("/pods", tls=tls)
    except (OSError, asyncio.IncompleteReadError):
        return True
    return answer.status == 401


async def test_a2_certificates_of_others_do_not_count(kubelet: Kubelet) -> None:
    pki = kubelet.pki
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2)
    strangers = [
        trustme.CA().issue_cert("a@b.c", common_name="apiserver", organization_name="system:masters"),
        pki.ca.issue_cert("a@b.c", common_name="apiserver", not_before=past, not_after=past + datetime.timedelta(1)),
    ]
    for stranger in strangers:
        assert await refused(kubelet, pki.client(stranger))
    assert (await kubelet.ask("/pods")).status == 200


@pytest.mark.parametrize(
    ("usages", "name"),
    [
        ([ExtendedKeyUsageOID.SERVER_AUTH], "eve"),
        (None, "eve"),
        ([ExtendedKeyUsageOID.CODE_SIGNING], "eve"),
        ([ExtendedKeyUsageOID.CLIENT_AUTH], ""),
    ],
)
async def test_a2_certificates_not_meant_for_clients_do_not_count(
    kubelet: Kubelet, tmp_path: Path, usages: list[x509.ObjectIdentifier] | None, name: str
) -> None:
    path = certificate(kubelet.pki, tmp_path / "eve.pem", usages=usages, name=name)
    assert read_certificate(ssl.PEM_cert_to_DER_cert(path.read_text().partition("-----BEGIN PRIVATE")[0])) is None
    tls = kubelet.pki.client()
    tls.load_cert_chain(path)
    assert await refused(kubelet, tls)
    good = certificate(kubelet.pki, tmp_path / "good.pem", usages=[ExtendedKeyUsageOID.CLIENT_AUTH])
    tls = kubelet.pki.client()
    tls.load_cert_chain(good)
    assert (await kubelet.ask("/pods", tls=tls)).status == 200


async def test_f24_an_authority_that_is_removed_is_refused_from_then_on_and_a_new_one_is_known(
    kubelet: Kubelet,
) -> None:
    """Both are known while both are in the file, as in an exchange; no restart."""
    file = kubelet.pki.directory / "ca.crt"
    old, other = file.read_bytes(), trustme.CA()
    newcomer = other.issue_cert("c@example.org", common_name="apiserver", organization_name="system:masters")
    tls = kubelet.pki.client(newcomer)
    assert await refused(kubelet, tls)
    for bundle, known in ((old + other.cert_pem.bytes(), (True, True)), (other.cert_pem.bytes(), (False, True))):
        file.write_bytes(bundle)
        await kubelet.server.reload()
        found = not await refused(kubelet, kubelet.admin), not await refused(kubelet, tls)
        assert found == known


async def test_a2_without_a_client_ca_certificates_mean_nothing(start: Start) -> None:
    async with start(client_ca_file=None) as kubelet:
        assert await refused(kubelet, kubelet.admin)


def test_a_certificate_ends_while_its_connection_lives() -> None:
    now = datetime.datetime.now(datetime.UTC)
    hour = datetime.timedelta(hours=1)
    held = Certificate(User("x"), now - hour, now)
    assert held.current(now)
    assert not held.current(now + hour)
    assert not held.current(now - 2 * hour)


def test_nonsense_is_no_certificate() -> None:
    assert read_certificate(b"nonsense") is None


async def test_a5_tokens_are_reviewed_and_the_answer_is_kept(kubelet: Kubelet) -> None:
    kubelet.reviews.tokens["good"] = {"username": "system:serviceaccount:kube-system:metrics-server", "uid": "u1"}
    bearer = [("Authorization", "Bearer good")]
    for _ in range(3):
        assert (await kubelet.ask("/pods", headers=bearer, tls=kubelet.anonymous)).status == 200
    kinds = [body["kind"] for body in kubelet.reviews.asked]
    assert kinds == ["TokenReview", "SubjectAccessReview"]
    spec = kubelet.reviews.asked[1]["spec"]
    assert spec["user"] == "system:serviceaccount:kube-system:metrics-server"
    assert spec["uid"] == "u1"
    assert "system:authenticated" in spec["groups"]


@pytest.mark.parametrize(
    "value",
    ["Bearer bad", "Basic good", "Bearer", "good", "Bearer good extra", "Bearer\tgood", "Bearer " + "x" * 20_000],
)
async def test_a5_other_tokens_are_refused(kubelet: Kubelet, value: str) -> None:
    kubelet.reviews.tokens["good"] = {"username": "someone"}
    answer = await kubelet.ask("/pods", headers=[("Authorization", value)], tls=kubelet.anonymous)
    assert answer.status == 401


async def test_a5_two_authorization_headers_are_none(kubelet: Kubelet) -> None:
    kubelet.reviews.tokens["good"] = {"username": "someone"}
    twice = [("Authorization", "Bearer good"), ("Authorization", "Bearer good")]
    assert (await kubelet.ask("/pods", headers=twice, tls=kubelet.anonymous)).status in (400, 401)


async def test_a5_if_nobody_can_review_a_token_it_is_refused(kubelet: Kubelet) -> None:
    kubelet.reviews.tokens["good"] = {"username": "someone"}
    kubelet.reviews.down = True
    bearer = [("Authorization", "Bearer good")]
    assert (await kubelet.ask("/pods", headers=bearer, tls=kubelet.anonymous)).status == 401
    kubelet.reviews.down = False
    assert (await kubelet.ask("/pods", headers=bearer, tls=kubelet.anonymous)).status == 200


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"authenticated": False, "user": {"username": "x"}},
        {"authenticated": "true", "user": {"username": "x"}},
        {"authenticated": True, "user": {}},
        {"authenticated": True, "error": "audience", "user": {"username": "x"}},
        None,
    ],
)
async def test_a5_only_a_clear_yes_is_a_yes(status: object) -> None:
    class Server:
        async def create(self, resource: object, body: object, /) -> object:
            return {"status": status}

    authenticator = Authenticator(Server())
    assert await authenticator.authenticate(None, authorization=["Bearer t"]) is None


async def test_a_thousand_requests_with_one_token_make_one_review() -> None:
    calls = 0

    class Server:
        async def create(self, resource: object, body: object, /) -> object:
            nonlocal calls
            calls += 1
            await asyncio.sleep(0.01)
            return {"status": {"authenticated": True, "user": {"username": "x", "extra": {"k": ["v"]}}}}

    authenticator = Authenticator(Server())
    asked = (authenticator.authenticate(None, authorization=["Bearer t"]) for _ in range(1000))
    users = set(await asyncio.gather(*asked))
    assert calls == 1
    assert users == {User("x", ("system:authenticated",), "", (("k", ("v",)),))}


def test_bearer_is_read_whatever_its_case() -> None:
    assert bearer_token(["bEaReR a.b-c_d"]) == "a.b-c_d"
    assert bearer_token([]) is None
