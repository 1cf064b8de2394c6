"""Quantities: Kubernetes' notations, exact arithmetic, canonical text."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube.quantities import Notation, Quantity, QuantityError

_FACTORS = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    **{f"{letter}i": Fraction(1024**power) for power, letter in enumerate("KMGTPE", start=1)},
}


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        # As k8s.io/apimachinery/pkg/api/resource/quantity_test.go and its documentation have it.
        ("0", "0"),
        ("1.5", "1500m"),
        ("1.5Gi", "1536Mi"),
        ("0.1m", "100u"),
        ("1000m", "1"),
        ("1e3", "1e3"),
        ("1E3", "1e3"),
        ("1E", "1E"),
        ("1500e-3", "1500e-3"),
        ("1024Ki", "1Mi"),
        ("1023Ki", "1023Ki"),
        ("0.5Ki", "512"),
        ("100", "100"),
        ("1000", "1k"),
        ("+5", "5"),
        ("-5m", "-5m"),
        (".5", "500m"),
        ("5.", "5"),
        ("0.1n", "1n"),
        ("-0.1n", "-1n"),
        ("1.1Mi", "1153433600m"),
        ("9999999999999Ei", "9223372036854775807"),
    ],
)
def test_canonical_text(text: str, canonical: str) -> None:
    assert str(Quantity.parse(text)) == canonical


@pytest.mark.parametrize(
    "text", ["", ".", "m", "1K", "1ki", "1mi", "1 Gi", "0x10", "1e", "--1", "1e99999999999", "\u0661"]
)
def test_refuses_what_is_no_quantity(text: str) -> None:
    with pytest.raises(QuantityError):
        Quantity.parse(text)


@given(
    whole=st.integers(min_value=0, max_value=10**6),
    fraction=st.integers(min_value=0, max_value=10**6 - 1),
    suffix=st.sampled_from(sorted(_FACTORS)),
)
def test_parse_is_exact_to_the_nano_and_rounds_up(whole: int, fraction: int, suffix: str) -> None:
    text = f"{whole}.{fraction:06d}{suffix}"
    exact = (whole + Fraction(fraction, 10**6)) * _FACTORS[suffix]
    nanos = min(-(-exact * 10**9 // 1), Fraction((2**63 - 1) * 10**9))
    assert Quantity.parse(text).nanos == nanos


_quantities = st.builds(
    Quantity, st.integers(min_value=-(10**22), max_value=10**22), st.sampled_from([Notation.DECIMAL, Notation.BINARY])
)


@given(_quantities)
def test_text_reads_back_as_the_same_amount(quantity: Quantity) -> None:
    assert Quantity.parse(str(quantity)) == quantity


@given(_quantities)
def test_canonical_text_is_stable_and_has_no_fraction(quantity: Quantity) -> None:
    text = str(quantity)
    assert "." not in text
    again = Quantity(Quantity.parse(text).nanos, quantity.notation)  # 3125000 is binary and has no suffix to tell
    assert str(again) == text


@given(_quantities, _quantities)
def test_arithmetic_is_exact(one: Quantity, other: Quantity) -> None:
    assert (one + other).nanos == one.nanos + other.nanos
    assert one + other - other == one
    assert (one < other) == (one.nanos < other.nanos)


def test_ten_tenths_are_one() -> None:
    total = Quantity(0)
    for _ in range(10):
        total = total + Quantity.parse("100m")
    assert total == Quantity.of(1)


def test_a_sum_keeps_the_notation_of_what_is_not_zero() -> None:
    assert str(Quantity(0) + Quantity.parse("2Gi")) == "2Gi"
    assert str(Quantity.parse("3Gi") - Quantity.parse("1Gi")) == "2Gi"


def test_floor_drops_parts_of_a_unit() -> None:
    assert Quantity.parse("1500m").floor() == Quantity.of(1)
    assert not Quantity.parse("1500m").whole
