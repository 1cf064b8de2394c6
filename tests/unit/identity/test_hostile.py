"""Hostile and spoilt input, whatever it is: refused with a reason, or taken for no more than it may be; no crash."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from api.authentication.common import SignedRequest
from api.authentication.resource_slice import Decision, ResourceSlice, ResourceSliceStatus
from api.authentication.tenant import Tenant
from identity import keys, names, requests
from identity.consumer import access, manifest
from identity.consumer.slices import bounded, plain_time
from identity.keys import PrivateKey
from identity.problems import RefusedError
from identity.provider.grants import Stock
from identity.provider.settings import ProviderSettings
from identity.provider.slices import Slices
from identity.requests import Party
from identity.sealing import unseal
from kube.quantities import ZERO, Quantity, QuantityError

KEY = PrivateKey.generate()
OTHER = PrivateKey.generate()
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
PARTY = Party(consumer_id="shop", cluster_id="11111111-2222-3333-4444-555555555555")
GOOD = requests.sign_request(KEY, PARTY, identity="north", now=NOW)
USER = names.join_user("shop", KEY.digest())
TEXT = st.text(max_size=20) | st.sampled_from(["", "\n", "\x00", "-----BEGIN CERTIFICATE-----", "2026-13-01T00:00:00Z"])
TIME = TEXT | st.datetimes().map(str) | st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
_ODD = ["", "-1", "1e9", "99999999999999999999Ei", "0.0000000000001", "NaN", "1,5", "\n1", "5Mi", "1500m", "3.7"]
QUANTITY = st.sampled_from(_ODD) | st.integers(-9, 12)
AMOUNTS = st.dictionaries(
    st.sampled_from(["cpu", "memory", "pods", "limits.cpu", "a.example/x", ""]), QUANTITY, max_size=4
)


@given(st.data())
def test_a37_a_request_with_anything_else_in_it_is_refused(data: st.DataObject) -> None:
    fields = ("identity", "nonce", "issuedAt", "certificateRequest", "signature")
    whole = msgspec.to_builtins(GOOD)
    changed = data.draw(st.sets(st.sampled_from(fields), min_size=1))
    for field in changed:
        was = whole[field]
        whole[field] = data.draw(TIME.filter(was.__ne__))
    # As a Struct that nobody checked: what the API server's schema refuses is refused here too.
    spoilt = SignedRequest(**{msgspec.structs.fields(SignedRequest)[i].name: whole[f] for i, f in enumerate(fields)})
    with pytest.raises(RefusedError):
        requests.check_request(spoilt, PARTY, public_key=KEY.public_pem())


@given(st.binary(max_size=3), st.integers(0, 10_000), TEXT)
def test_a37_a_spoilt_certificate_request_is_refused_or_the_same(noise: bytes, where: int, text: str) -> None:
    parsed = x509.load_pem_x509_csr(GOOD.certificate_request.encode())
    der = parsed.public_bytes(serialization.Encoding.DER)
    at = where % len(der)
    spoilt = der[:at] + noise + der[at + len(noise) :]
    body = base64.encodebytes(spoilt).decode()
    pem = f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n"
    for candidate in (pem, text, pem + text):
        try:
            found = requests.check_csr(candidate, user=USER, field="f")
        except RefusedError:
            continue
        assert keys.digest(found.key) == KEY.digest()
        assert b"CERTIFICATE REQUEST" in found.pem


@given(TIME, TIME, st.lists(TEXT, max_size=3))
def test_a37_f22_times_that_are_none_are_refused(issued: str, last: str, nonces: list[str]) -> None:
    request = msgspec.structs.replace(GOOD, issued_at=issued)
    try:
        requests.check_fresh(request, now=NOW, last=last, nonces=nonces)
    except RefusedError:
        return
    assert abs((requests.parse_time(issued, field="f") - NOW).days) <= 8


@given(TEXT | st.binary(max_size=200).map(lambda data: base64.b64encode(data).decode()))
def test_a_sealed_token_of_somebody_else_is_refused(sealed: str) -> None:
    with pytest.raises(RefusedError):
        unseal(sealed, KEY, purpose="p")


@given(TEXT)
def test_a39_keys_that_are_none_are_refused(pem: str) -> None:
    with pytest.raises(RefusedError):
        keys.load_public(pem)
    with pytest.raises(RefusedError):
        access.check_certificate(pem, KEY, user=USER)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.sampled_from(["spec", "certificate"]), inner),
    max_leaves=8,
)


@given(JSON, TEXT)
def test_a_providers_answer_that_is_none_is_refused(document: Any, text: str) -> None:
    for candidate in (msgspec.json.encode(document).decode(), text, f"spec: {text}", "spec: {certificate: [1]}"):
        try:
            found = manifest.answered(candidate)
        except RefusedError:
            continue
        assert all(isinstance(value, str) for value in found.values())


@given(st.binary(max_size=80) | JSON.map(msgspec.json.encode))
def test_a_kubeconfig_that_is_none_of_ours_is_none(text: bytes) -> None:
    assert access.read(text) is None


@given(AMOUNTS, AMOUNTS, TIME)
def test_a_provider_never_grants_more_than_was_asked(asked: dict[str, Any], granted: dict[str, Any], time: str) -> None:
    one = msgspec.convert({"spec": {"identity": "n", "resources": {}}}, ResourceSlice)
    one = msgspec.structs.replace(one, spec=msgspec.structs.replace(one.spec, resources=asked))
    found = bounded(one, ResourceSliceStatus(granted=granted))
    for name, amount in found.items():
        assert Quantity.parse(str(amount)) <= max(Quantity.parse(str(asked[name])), ZERO)
        assert Quantity.parse(str(amount)).nanos >= 0
    assert plain_time(time) == "" or requests.parse_time(plain_time(time), field="f")


class Everything:
    """A store and an inventory for one Tenant and one slice."""

    def __init__(self, tenant: Tenant, one: ResourceSlice) -> None:
        self.tenant, self.one = tenant, one

    def get(self, key: tuple[str, str]) -> Any:
        return self.tenant if key == ("", "shop") else self.one if key == self.one.metadata.key else None

    def keys(self) -> list[tuple[str, str]]:
        return [self.one.metadata.key]

    def stock(self, _selector: Mapping[str, str]) -> Stock:
        return Stock(nodes=frozenset({"n"}), offered={name: Quantity.of(8) for name in ("cpu", "memory", "pods")})

    def nodes(self, _selector: Mapping[str, str]) -> frozenset[str]:
        return frozenset({"n"})


@given(AMOUNTS, AMOUNTS, st.sampled_from(["default", "manual", "other"]), st.none() | AMOUNTS, TIME)
def test_a26_a_slice_of_anything_is_answered_within_its_bounds(
    asked: dict[str, Any], ceiling: dict[str, Any], kind: str, decided: dict[str, Any] | None, expires: str
) -> None:
    tenant = msgspec.convert(
        {"metadata": {"name": "shop"}, "spec": {}, "status": {"user": "u", "namespace": "isthmus-shop"}}, Tenant
    )
    limits = {name: text for name, text in ceiling.items() if readable(text)}  # the API server sees to the Tenant's
    spec = msgspec.structs.replace(tenant.spec, classes=("default", "manual", "other"), resources=limits)
    one = msgspec.convert(
        {"metadata": {"name": "a", "namespace": "isthmus-shop"}, "spec": {"identity": "n", "resources": {}}},
        ResourceSlice,
    )
    decision = None
    if decided is not None:
        decision = Decision(verdict="Granted")
        decision = msgspec.structs.replace(decision, resources=decided)
    one = msgspec.structs.replace(
        one,
        spec=msgspec.structs.replace(one.spec, resources=asked, class_=kind),
        status=ResourceSliceStatus(decision=decision),
    )
    store: Any = Everything(msgspec.structs.replace(tenant, spec=spec), one)
    made = Slices(
        None,  # type: ignore[arg-type]  # nothing is written
        ProviderSettings(server="", ca="", cluster_id=""),
        slices=store,
        tenants=store,
        inventory=store,
        wake=lambda _key: None,
        recorder=None,  # type: ignore[arg-type]  # nor told
        now=lambda: NOW,
        check_leading=lambda: None,
    )
    answer = made.answer(one, store.tenant)
    assert answer.status == "True" or not answer.amounts
    for name, amount in answer.amounts.items():
        assert amount <= Quantity.parse(str(asked[name]))
        assert amount.nanos >= 0
        if name in limits:
            assert amount <= Quantity.parse(str(limits[name]))


def readable(text: Any) -> bool:
    try:
        return Quantity.parse(str(text)).nanos >= 0
    except QuantityError:
        return False
