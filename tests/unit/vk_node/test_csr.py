"""Requests for serving certificates, the check of what comes back, and the folder that keeps them."""

import datetime
import ipaddress
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vk.node import csr
from vk.node.csr import CertificateError, Key, Names
from vk.node.keystore import KeyStore

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
NAMES = Names(node="vk-1", addresses=("198.18.0.7", "2001:DB8::7"), dns=("vk-1.example",))
_CA_KEY = ec.generate_private_key(ec.SECP256R1())
_CA_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])


def issue(
    request_pem: bytes,
    *,
    start: datetime.datetime = NOW,
    lifetime: datetime.timedelta = datetime.timedelta(hours=1),
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
    names: Sequence[x509.GeneralName] | None = None,
) -> bytes:
    """A certificate for a request, as a cluster's signer would make it."""
    request = x509.load_pem_x509_csr(request_pem)
    asked = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    builder = x509.CertificateBuilder(issuer_name=_CA_NAME, subject_name=request.subject)
    builder = builder.public_key(request.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(start).not_valid_after(start + lifetime)
    builder = builder.add_extension(x509.SubjectAlternativeName(names or list(asked)), critical=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(_CA_KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_a_request_is_what_the_signer_demands() -> None:
    """k8s.io/kubernetes/pkg/apis/certificates/helpers.go ValidateKubeletServingCSR."""
    request = x509.load_pem_x509_csr(Key.generate().request(NAMES))
    assert [a.value for a in request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == ["system:nodes"]
    assert [a.value for a in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["system:node:vk-1"]
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["vk-1.example"]
    addresses = [ipaddress.ip_address("198.18.0.7"), ipaddress.ip_address("2001:db8::7")]
    assert names.get_values_for_type(x509.IPAddress) == addresses
    assert not names.get_values_for_type(x509.RFC822Name)
    assert request.is_signature_valid
    key = request.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"


def test_the_same_key_and_names_give_the_same_object() -> None:
    key = Key.generate()
    again = Names(node="vk-1", addresses=("2001:db8::7", "198.18.0.7"), dns=("vk-1.example",))
    assert csr.object_name(key, NAMES) == csr.object_name(key, again)
    assert csr.object_name(key, NAMES) != csr.object_name(Key.generate(), NAMES)
    assert csr.object_name(key, NAMES) != csr.object_name(key, Names(node="vk-1", addresses=("198.18.0.7",)))


def test_a_good_certificate_is_accepted() -> None:
    key = Key.generate()
    pair = csr.accept(issue(key.request(NAMES)), key=key, now=NOW)
    assert csr.missing_names(pair.leaf, NAMES) == set()
    assert csr.extra_names(pair.leaf, NAMES) == set()
    assert b"PRIVATE KEY" in pair.pem()
    assert "PRIVATE" not in repr(pair)
    assert "PRIVATE" not in repr(key)


def test_another_keys_certificate_is_refused() -> None:
    chain = issue(Key.generate().request(NAMES))
    with pytest.raises(CertificateError, match="another key"):
        csr.accept(chain, key=Key.generate(), now=NOW)


def test_an_expired_certificate_is_refused() -> None:
    key = Key.generate()
    with pytest.raises(CertificateError, match="expired"):
        csr.accept(issue(key.request(NAMES)), key=key, now=NOW + datetime.timedelta(hours=2))


def test_a_client_certificate_is_refused() -> None:
    key = Key.generate()
    chain = issue(key.request(NAMES), usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    with pytest.raises(CertificateError, match="serverAuth"):
        csr.accept(chain, key=key, now=NOW)


@pytest.mark.parametrize("chain", [b"", b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_no_certificate_at_all_is_refused(chain: bytes) -> None:
    with pytest.raises(CertificateError):
        csr.accept(chain, key=Key.generate(), now=NOW)


def test_names_that_are_missing_or_too_many_are_seen() -> None:
    key = Key.generate()
    other = [x509.DNSName("vk-1.example"), x509.DNSName("kubernetes.default")]
    pair = csr.accept(issue(key.request(NAMES), names=other), key=key, now=NOW)
    assert csr.missing_names(pair.leaf, NAMES) == {"198.18.0.7", "2001:db8::7"}
    assert csr.extra_names(pair.leaf, NAMES) == {"kubernetes.default"}


def test_the_folder_keeps_a_pair_over_a_restart(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "state")
    assert store.load(now=NOW) is None
    key = store.pending()
    assert KeyStore(tmp_path / "state").pending().public() == key.public(), "a restart goes on with the same request"
    pair = csr.accept(issue(key.request(NAMES)), key=key, now=NOW)
    store.save(pair)
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700
    loaded = KeyStore(tmp_path / "state").load(now=NOW)
    assert loaded is not None
    assert loaded.leaf == pair.leaf
    assert loaded.key.public() == key.public()
    assert store.pending().public() != key.public(), "the next request has a key of its own"
    assert sorted(path.name for path in store.path.parent.iterdir()) == [
        "kubelet-serving-pending.pem",
        "kubelet-serving.pem",
    ]


def test_a_spoilt_pair_is_an_error_and_a_spoilt_pending_key_is_not(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    store.path.write_bytes(b"half a fi")
    with pytest.raises(CertificateError):
        store.load(now=NOW)
    (tmp_path / "kubelet-serving-pending.pem").write_bytes(b"")
    assert store.pending().public()


def test_f32_a_pair_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = KeyStore(tmp_path)
    key = store.pending()
    store.save(csr.accept(issue(key.request(NAMES)), key=key, now=NOW))
    before = store.path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    new = Key.generate()
    with pytest.raises(OSError, match="No space"):
        store.save(csr.accept(issue(new.request(NAMES)), key=new, now=NOW))
    assert store.path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["kubelet-serving.pem"]
