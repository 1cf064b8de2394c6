"""What a consumer signs, and what a provider refuses: forged, edited, replayed, expired, for others, for more."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import AttributeOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from api.authentication.common import SignedRequest
from identity import keys, names, requests
from identity.keys import PrivateKey
from identity.problems import RefusedError
from identity.requests import Party

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = PrivateKey.generate()
PARTY = Party(consumer_id="shop", cluster_id="11111111-2222-3333-4444-555555555555")
USER = names.join_user("shop", KEY.digest())
REQUEST = requests.sign_request(KEY, PARTY, identity="north", now=NOW)
FIELDS = ("identity", "nonce", "issued_at", "signature")

Builder = x509.CertificateSigningRequestBuilder


def subject(*pairs: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in pairs])


def csr(
    change: Callable[[Builder], Builder] = lambda builder: builder,
    *,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey = KEY.raw,
    name: x509.Name | None = None,
    algorithm: hashes.HashAlgorithm | None = hashes.SHA256(),  # noqa: B008
) -> str:
    builder = change(Builder().subject_name(subject((NameOID.COMMON_NAME, USER)) if name is None else name))
    made = builder.sign(key, algorithm)  # type: ignore[arg-type]  # kinds that are refused
    return made.public_bytes(serialization.Encoding.PEM).decode()


def alternative(*found: x509.GeneralName) -> Callable[[Builder], Builder]:
    return lambda builder: builder.add_extension(x509.SubjectAlternativeName(found), critical=False)


def authority(builder: Builder) -> Builder:
    return builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)


def password(builder: Builder) -> Builder:
    return builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, b"secret")


def refused(reason: str, says: str) -> "pytest.RaisesExc[RefusedError]":
    return pytest.raises(RefusedError, match=says, check=lambda error: error.reason == reason)


def test_a_request_is_accepted_by_whom_it_is_for() -> None:
    found = requests.check_request(REQUEST, PARTY, public_key=KEY.public_pem())
    assert keys.digest(found.key) == KEY.digest()
    requests.check_fresh(REQUEST, now=NOW, last="", nonces=())


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (csr(alternative(x509.DNSName("north"))), "asks for extensions"),
        (csr(alternative(x509.RFC822Name("a@example.com"))), "asks for extensions"),
        (csr(authority), "asks for extensions"),
        (csr(password), "has attributes"),
        (csr(name=subject((NameOID.ORGANIZATION_NAME, "system:masters"), (NameOID.COMMON_NAME, USER))), "its subject"),
        (csr(name=subject((NameOID.COMMON_NAME, USER), (NameOID.COMMON_NAME, "admin"))), "its subject"),
        (csr(name=subject((NameOID.COMMON_NAME, names.join_user("other", KEY.digest())))), "its subject"),
        (csr(name=subject((NameOID.COMMON_NAME, "system:node:a"))), "its subject"),
        (csr(name=x509.Name([])), "its subject"),
        (csr(key=rsa.generate_private_key(65537, 1024)), "must be an ECDSA one"),
        (csr(key=rsa.generate_private_key(65537, 2048)), "must be an ECDSA one"),
        (csr(key=ec.generate_private_key(ec.SECP384R1())), "must be an ECDSA one"),
        (csr(key=ed25519.Ed25519PrivateKey.generate(), algorithm=None), "must be an ECDSA one"),
        ("", "not a PKCS#10"),
        ("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "not a PKCS#10"),
    ],
)
def test_a37_a39_a_certificate_request_for_anything_else_is_refused(made: str, says: str) -> None:
    with refused("BadRequest" if "ECDSA" not in says else "BadKey", says):
        requests.check_csr(made, user=USER, field="spec.request.certificateRequest")


def test_a37_only_the_request_itself_goes_on_to_the_signer() -> None:
    other = csr(name=subject((NameOID.COMMON_NAME, "admin")))
    found = requests.check_csr(csr() + "noise\n" + other, user=USER, field="f")
    assert found.pem.count(b"BEGIN CERTIFICATE REQUEST") == 1
    assert b"noise" not in found.pem


@pytest.mark.parametrize("field", FIELDS)
@given(data=st.data())
def test_a37_nothing_of_a_request_can_be_edited(field: str, data: st.DataObject) -> None:
    text = data.draw(st.text(max_size=40).filter(lambda it: it != getattr(REQUEST, field)))
    edited = msgspec.structs.replace(REQUEST, **{field: text})
    with pytest.raises(RefusedError):
        requests.check_request(edited, PARTY, public_key=KEY.public_pem())


@given(raw=st.binary(max_size=200) | st.just(REQUEST.certificate_request.encode()), cut=st.integers(0, 400))
def test_a37_rubbish_is_refused_and_breaks_nothing(raw: bytes, cut: int) -> None:
    text = raw[:cut].decode("latin-1")
    spoilt = SignedRequest(identity="north", nonce="0" * 32, issued_at=text, certificate_request=text, signature=text)
    with pytest.raises(RefusedError):
        requests.check_request(spoilt, PARTY, public_key=KEY.public_pem())
    with pytest.raises(RefusedError):
        requests.check_request(REQUEST, PARTY, public_key=text)
    with pytest.raises(RefusedError):
        requests.check_credential(text, text, user=USER, public_key=KEY.public_pem())


@pytest.mark.parametrize(
    "party",
    [
        Party(consumer_id="other", cluster_id=PARTY.cluster_id),
        Party(consumer_id="shop", cluster_id="99999999-2222-3333-4444-555555555555"),
    ],
)
def test_a37_a_request_is_for_one_id_and_one_cluster(party: Party) -> None:
    with refused("BadSignature", "by the consumer's key"):
        requests.check_request(REQUEST, party, public_key=KEY.public_pem())


def test_a37_a_request_of_another_key_is_refused() -> None:
    thief = PrivateKey.generate()
    with refused("BadSignature", "by the consumer's key"):
        requests.check_request(REQUEST, PARTY, public_key=thief.public_pem())
    stolen = msgspec.structs.replace(
        requests.sign_request(thief, PARTY, identity="north", now=NOW), certificate_request=REQUEST.certificate_request
    )
    with pytest.raises(RefusedError):
        requests.check_request(stolen, PARTY, public_key=thief.public_pem())


@pytest.mark.parametrize("size", [1024, 2048])
def test_a39_only_one_kind_of_key_is_taken(size: int) -> None:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public = rsa.generate_private_key(65537, size).public_key().public_bytes(serialization.Encoding.PEM, form)
    with refused("BadKey", "spec.publicKey: the key must be an ECDSA one"):
        keys.load_public(public.decode())


@pytest.mark.parametrize(
    ("at", "last", "nonces", "reason"),
    [
        (NOW + timedelta(days=8), "", (), "RequestExpired"),
        (NOW - timedelta(hours=1), "", (), "ClockSkew"),
        (NOW, "2026-03-01T12:00:01Z", (), "Replayed"),
        (NOW, "2026-03-01T12:00:00Z", (), "Replayed"),
        (NOW, "", (REQUEST.nonce,), "NonceReused"),
    ],
)
def test_a37_f22_a_request_counts_once_and_for_a_time(
    at: datetime, last: str, nonces: tuple[str, ...], reason: str
) -> None:
    with refused(reason, r"spec\.request"):
        requests.check_fresh(REQUEST, now=at, last=last, nonces=nonces)


def test_a_credential_request_needs_the_tenants_key_and_not_only_the_credential() -> None:
    pending, thief = PrivateKey.generate(), PrivateKey.generate()
    user = names.user("shop", names.incarnation("uid", 0))
    asked = requests.make_csr(pending, user)
    good = requests.sign_credential(KEY, user=user, csr=asked)
    requests.check_credential(asked, good, user=user, public_key=KEY.public_pem())
    with refused("BadSignature", "spec.signature"):
        stolen = requests.sign_credential(thief, user=user, csr=asked)
        requests.check_credential(asked, stolen, user=user, public_key=KEY.public_pem())
    with refused("BadSignature", "spec.signature"):
        other = requests.make_csr(thief, user)
        requests.check_credential(other, good, user=user, public_key=KEY.public_pem())
    with refused("BadRequest", "its subject"):
        later = names.user("shop", names.incarnation("uid", 1))
        requests.check_credential(asked, good, user=later, public_key=KEY.public_pem())


def test_each_life_of_a_tenant_has_a_name_of_its_own() -> None:
    lives = {names.incarnation(uid, epoch) for uid in ("a", "b") for epoch in range(3)}
    assert len(lives) == 6


def test_renewal_is_at_two_thirds() -> None:
    assert requests.renewal(NOW, "2026-03-01T15:00:00Z") == NOW + timedelta(hours=2)
