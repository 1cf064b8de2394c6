"""The webhook's certificates through their life: replaced in time, never shown before they are trusted."""

import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from reflection.scheduling import certificates
from reflection.scheduling.certificates import Lifetimes, Material, MaterialError

NAMES = ("isthmus-webhook.isthmus.svc", "198.18.0.1")
START = datetime(2026, 1, 1, tzinfo=UTC)
LIFE = Lifetimes(authority=timedelta(days=90), serving=timedelta(days=30), leeway=timedelta(0))


def step(material: Material | None, now: datetime, *, settled: bool = True) -> Material:
    return certificates.advance(material, names=NAMES, now=now, lifetimes=LIFE, settled=settled)


def days(count: float) -> datetime:
    return START + timedelta(days=count)


def test_the_first_time_both_are_made() -> None:
    made = step(None, START, settled=False)

    assert made.is_newest
    assert len(made.bundle) == 1
    found = made.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(name.value) for name in found} == set(NAMES)


def test_nothing_changes_before_two_thirds() -> None:
    made = step(None, START)

    assert step(made, days(19.9)) is made
    assert certificates.next_due(made) == days(20)


def test_a_serving_certificate_is_replaced_at_two_thirds_of_its_life() -> None:
    made = step(None, START)

    later = step(made, days(20))

    assert later.certificate != made.certificate
    assert later.bundle == made.bundle


def test_an_authority_is_made_known_before_it_is_used() -> None:
    made = step(step(step(None, START), days(20)), days(40))

    known = step(made, days(60), settled=True)
    assert len(known.bundle) == 2
    assert known.certificate == made.certificate
    assert step(known, days(60), settled=False) is known

    used = step(known, days(60), settled=True)
    assert used.is_newest
    assert used.bundle == known.bundle


def test_an_old_authority_leaves_the_bundle_when_it_expires() -> None:
    made = step(step(step(step(None, START), days(40)), days(60)), days(60))

    assert len(step(made, days(89)).bundle) == 2
    assert step(made, days(90)).bundle == made.bundle[:1]


def test_other_names_need_another_certificate_at_once() -> None:
    made = step(None, START)

    other = certificates.advance(made, names=("other.svc",), now=START, lifetimes=LIFE, settled=False)

    assert other.certificate != made.certificate
    assert other.bundle == made.bundle


def test_what_has_expired_altogether_is_made_anew() -> None:
    made = step(None, START)

    assert step(made, days(31), settled=False).certificate != made.certificate
    anew = step(made, days(91), settled=False)
    assert anew.bundle != made.bundle
    assert len(anew.bundle) == 1


@given(st.lists(st.tuples(st.floats(0.1, 25), st.booleans()), max_size=12))
def test_at_all_times_what_is_shown_is_trusted(steps: list[tuple[float, bool]]) -> None:
    """Whatever pauses there are: the bundle before and after each change trusts the certificate of both."""
    now = START
    material = step(None, now)
    for pause, settled in steps:
        now += timedelta(days=pause)
        before, material = material, step(material, now, settled=settled)
        assert now < material.certificate.not_valid_after_utc
        assert certificates.decode(material.encode()) == material
        if settled and now < before.certificate.not_valid_after_utc:
            # A replica that has not heard of the change still shows the old one.
            certificates.decode(replace(material, certificate=before.certificate, key=before.key).encode())


def test_material_survives_being_kept() -> None:
    made = step(None, START)

    kept = certificates.decode(made.encode())

    assert kept == made
    assert step(kept, days(20)).is_newest


@pytest.mark.parametrize("missing", [certificates.CA_BUNDLE, certificates.CA_KEY, certificates.CHAIN, certificates.KEY])
def test_spoilt_material_is_refused(missing: str) -> None:
    data = step(None, START).encode()
    strange = step(None, START).encode()

    for spoilt in ({**data, missing: b"junk"}, {**data, missing: strange[missing]}):
        with pytest.raises(MaterialError):
            certificates.decode(spoilt)
    del data[missing]
    with pytest.raises(MaterialError):
        certificates.decode(data)


def test_keys_do_not_show() -> None:
    made = step(None, START)

    assert "key" not in repr(made)
    context = ssl.create_default_context(cadata=made.bundle_pem().decode())
    assert context.cert_store_stats()["x509_ca"] == 1
