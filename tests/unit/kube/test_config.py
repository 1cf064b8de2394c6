import asyncio
import base64
import contextlib
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from kube import config, kubeconfig, tls
from kube.config import Credentials
from kube.errors import ConfigError

CA = trustme.CA()
CLIENT = CA.issue_cert("client")


def _write(folder: Path, *, cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None) -> Path:
    authority = base64.b64encode(CA.cert_pem.bytes()).decode()
    cluster = {"server": "https://127.0.0.1:6443", "certificate-authority-data": authority} | (cluster or {})
    path = folder / "kubeconfig"
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": cluster}],
        "users": [{"name": "u", "user": user or {}}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


def _rewrite(path: Path, content: bytes) -> None:
    """Write a file so that it shows, however coarse the file system's clock is."""
    before = path.stat().st_mtime
    path.write_bytes(content)
    os.utime(path, (before + 1, before + 1))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _credentials(path: Path, clock: Callable[[], float]) -> Credentials:
    return Credentials(lambda: kubeconfig.read_kubeconfig(path), clock=clock)


async def test_plain_kubeconfig(tmp_path: Path) -> None:
    key, chain = CLIENT.private_key_pem.bytes(), CLIENT.cert_chain_pems[0].bytes()
    user = {
        "client-key-data": base64.b64encode(key).decode(),
        "client-certificate-data": base64.b64encode(chain).decode(),
        "token": "t0ken",
    }
    credentials = await config.load(kubeconfig=str(_write(tmp_path, user=user)))
    access = await credentials.access()
    assert (access.server, access.token) == ("https://127.0.0.1:6443", "t0ken")
    assert access.ssl is not None
    assert access.ssl.verify_mode is ssl.CERT_REQUIRED
    assert access.ssl.check_hostname
    assert access.ssl.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert "t0ken" not in repr(access)
    assert await credentials.access() is access


@pytest.mark.parametrize(
    ("cluster", "user", "words"),
    [
        ({"insecure-skip-tls-verify": True}, {}, "insecure-skip-tls-verify"),
        ({"server": "http://192.168.0.1"}, {}, "plain http"),
        ({"server": "ftp://127.0.0.1"}, {}, "https"),
        ({"server": "https://u:p@127.0.0.1"}, {}, "plain URL"),
        ({"proxy-url": "http://127.0.0.1"}, {}, "proxy-url"),
        ({"certificate-authority-data": "%%%"}, {}, "base64"),
        ({"certificate-authority-data": base64.b64encode(b"rubbish").decode()}, {}, "authority"),
        ({}, {"as": "admin"}, "impersonation"),
        ({}, {"username": "a", "password": "b"}, "password"),
        ({}, {"token": "a\r\nX-Evil: 1"}, "token"),
    ],
)
async def test_a39_what_is_unsafe_or_not_honoured_is_refused(
    tmp_path: Path, cluster: dict[str, Any], user: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        await config.load(kubeconfig=str(_write(tmp_path, cluster=cluster, user=user)))


async def test_a39_a_pinned_ca_is_the_only_one(tmp_path: Path) -> None:
    access = await (await config.load(kubeconfig=str(_write(tmp_path)))).access()
    assert access.ssl is not None
    subjects = [str(found["subject"]) for found in access.ssl.get_ca_certs()]
    assert len(subjects) == 1
    assert "trustme" in subjects[0]


@pytest.mark.parametrize("trouble", ["none", "other ca", "other name", "tls 1.1", "rsa 1024"])
async def test_a39_bad_servers_are_refused(trouble: str) -> None:
    server_ca = trustme.CA() if trouble == "other ca" else CA
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if trouble in {"tls 1.1", "rsa 1024"}:
        server.set_ciphers("ALL:@SECLEVEL=0")
    if trouble == "rsa 1024":
        _configure_weak(server)
    else:
        server_ca.issue_cert("elsewhere.test" if trouble == "other name" else "localhost").configure_cert(server)
    if trouble == "tls 1.1":
        server.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            server.maximum_version = ssl.TLSVersion.TLSv1_1
    listening = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=server)
    context = tls.client_context(ca=CA.cert_pem.bytes(), certificate=None, key=None)
    refused = contextlib.nullcontext() if trouble == "none" else pytest.raises((ssl.SSLError, ConnectionError))
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        with refused:
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
            writer.close()
            await writer.wait_closed()


def _configure_weak(server: ssl.SSLContext) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    signer = serialization.load_pem_private_key(CA.private_key_pem.bytes(), None)
    issuer = x509.load_pem_x509_certificate(CA.cert_pem.bytes())
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=True)
        .sign(signer, hashes.SHA256())  # type: ignore[arg-type]  # trustme's keys are of a kind that signs
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with trustme.Blob(private + made.public_bytes(serialization.Encoding.PEM)).tempfile() as path:
        server.load_cert_chain(path)


async def test_token_file_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first\n")
    clock = Clock()
    credentials = _credentials(_write(tmp_path, user={"tokenFile": "token"}), clock)
    first = await credentials.access()
    (tmp_path / "token").write_text("second one\n")
    assert (await credentials.access()).token == "first"
    clock.now += 11
    second = await credentials.access()
    assert second.token == "second one"
    # Connections stay: only the token changed.
    assert second.ssl is first.ssl


async def test_f23_new_client_certificate_without_restart_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    certificate.write_bytes(CLIENT.cert_chain_pems[0].bytes())
    key.write_bytes(CLIENT.private_key_pem.bytes())
    clock = Clock()
    user = {"client-certificate": "tls.crt", "client-key": "tls.key"}
    credentials = _credentials(_write(tmp_path, user=user), clock)
    first = await credentials.access()
    other = CA.issue_cert("client")
    # In the middle of a rotation: the new certificate does not fit the old key.
    _rewrite(certificate, other.cert_chain_pems[0].bytes())
    clock.now += 11
    assert await credentials.access() is first
    _rewrite(key, other.private_key_pem.bytes())
    clock.now += 11
    renewed = await credentials.access()
    assert renewed is not first
    assert renewed.ssl is not first.ssl


async def test_f24_new_ca_without_restart(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(CA.cert_pem.bytes())
    clock = Clock()
    cluster = {"certificate-authority-data": "", "certificate-authority": "ca.crt"}
    credentials = _credentials(_write(tmp_path, cluster=cluster), clock)
    first = await credentials.access()
    os.unlink(tmp_path / "ca.crt")
    clock.now += 11
    assert await credentials.access() is first
    other = trustme.CA()
    (tmp_path / "ca.crt").write_bytes(other.cert_pem.bytes())
    clock.now += 11
    second = await credentials.access()
    assert second.ssl is not None
    assert first.ssl is not None
    assert second.ssl.get_ca_certs() != first.ssl.get_ca_certs()
    assert len(second.ssl.get_ca_certs()) == 1


async def test_missing_file_at_start_is_an_error_each_time_until_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    credentials = _credentials(path, time.monotonic)
    for _ in range(2):
        with pytest.raises(ConfigError, match="cannot read"):
            await credentials.access()
    _write(tmp_path, user={"token": "a"})
    assert (await credentials.access()).token == "a"


async def test_service_account(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("sa-token")
    (tmp_path / "ca.crt").write_bytes(CA.cert_pem.bytes())
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    credentials = Credentials(lambda: kubeconfig.read_service_account(environ, folder=tmp_path))
    access = await credentials.access()
    assert (access.server, access.token) == ("https://[fd00::1]:443", "sa-token")
    with pytest.raises(ConfigError, match="not in a cluster"):
        kubeconfig.read_service_account({})


def _plugin(folder: Path, status: str) -> dict[str, Any]:
    """An exec plugin that counts its runs in the file ``runs``."""
    script = folder / "plugin.sh"
    answer = f'{{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{status}}}'
    script.write_text(f"#!/bin/sh\necho run >> {folder}/runs\necho '{answer}'\n")
    script.chmod(0o755)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin.sh"}}


async def test_exec_plugin_runs_once_and_again_after_a_401(tmp_path: Path) -> None:
    clock = Clock()
    clock.now = 100.0
    credentials = _credentials(_write(tmp_path, user=_plugin(tmp_path, '{"token":"from-plugin"}')), clock)
    access = await credentials.access()
    assert access.token == "from-plugin"
    clock.now += 11
    assert await credentials.access() is access
    assert (tmp_path / "runs").read_text().count("run") == 1
    _plugin(tmp_path, '{"token":"newer"}')
    renewed = await asyncio.gather(*(credentials.renew(access) for _ in range(20)))
    assert {found.token for found in renewed} == {"newer"}
    assert (tmp_path / "runs").read_text().count("run") == 2
    # A request that was sent long ago with what is replaced by now.
    clock.now += 6
    assert (await credentials.renew(access)).token == "newer"
    assert (tmp_path / "runs").read_text().count("run") == 2


async def test_exec_plugin_token_is_renewed_before_it_expires(tmp_path: Path) -> None:
    clock = Clock()
    status = '{"token":"short","expirationTimestamp":"2020-01-01T00:00:00Z"}'
    credentials = _credentials(_write(tmp_path, user=_plugin(tmp_path, status)), clock)
    await credentials.access()
    _plugin(tmp_path, '{"token":"later"}')
    clock.now += 11
    assert (await credentials.access()).token == "later"


async def test_exec_plugin_may_give_a_certificate(tmp_path: Path) -> None:
    chain = CLIENT.cert_chain_pems[0].bytes().decode().replace("\n", "\\\\n")
    key = CLIENT.private_key_pem.bytes().decode().replace("\n", "\\\\n")
    user = _plugin(tmp_path, f'{{"clientCertificateData":"{chain}","clientKeyData":"{key}"}}')
    access = await (await config.load(kubeconfig=str(_write(tmp_path, user=user)))).access()
    assert access.ssl is not None
    assert access.token is None


async def test_a38_a_failing_plugin_is_not_quoted(tmp_path: Path) -> None:
    user = _plugin(tmp_path, '{"password":"hunter2"}')
    with pytest.raises(ConfigError) as caught:
        await config.load(kubeconfig=str(_write(tmp_path, user=user)))
    (tmp_path / "plugin.sh").write_text("#!/bin/sh\necho hunter2 >&2\nexit 3\n")
    with pytest.raises(ConfigError, match="returned 3") as failed:
        await config.load(kubeconfig=str(tmp_path / "kubeconfig"))
    assert "hunter2" not in str(caught.value) + str(failed.value)


def test_plain_credentials_do_not_load_the_generated_client(tmp_path: Path) -> None:
    path = _write(tmp_path, user={"token": "a"})
    code = (
        "import asyncio, sys\nfrom kube import config\nimport kube.reflector\n"
        f"asyncio.run(config.load(kubeconfig={str(path)!r}))\n"
        "assert not [m for m in sys.modules if m.startswith('kubernetes_asyncio')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def _id_token(token: str, *, expires: int) -> str:
    claims = base64.urlsafe_b64encode(f'{{"exp":{expires},"n":"{token}"}}'.encode()).decode().rstrip("=")
    return f"e30.{claims}.sig"


async def test_auth_provider_by_kubernetes_asyncio(tmp_path: Path) -> None:
    token = _id_token("first", expires=4_000_000_000)
    user = {"auth-provider": {"name": "oidc", "config": {"id-token": token}}}
    assert (await (await config.load(kubeconfig=str(_write(tmp_path, user=user)))).access()).token == token
    expired = {"auth-provider": {"name": "oidc", "config": {"id-token": _id_token("x", expires=1)}}}
    with pytest.raises(ConfigError, match="auth-provider failed"):
        await config.load(kubeconfig=str(_write(tmp_path, user=expired)))


async def test_a_list_of_kubeconfigs_is_refused_and_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", "/nowhere/one:/nowhere/two")
    with pytest.raises(ConfigError, match="names 2 files"):
        await config.load()
