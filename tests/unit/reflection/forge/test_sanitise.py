from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflection.forge import sanitise

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("raw", "safe"),
    [
        ("plain", "plain"),
        ("grüße 世界", "grüße 世界"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\r\x00\x7f\x9b", "\\x0d\\x00\\x7f\\x9b"),
        ("\u202eevil\u2066\u200b\ufeff", "\\u202eevil\\u2066\\u200b\\ufeff"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_a33_text(raw: str, safe: str) -> None:
    assert sanitise.message(raw) == safe


@given(st.text(st.characters(), max_size=200), st.integers(min_value=8, max_value=120))
def test_a33_text_is_bounded_encodable_and_settles(raw: str, limit: int) -> None:
    safe = sanitise.text(raw, limit=limit)
    assert safe is not None
    assert len(safe.encode()) <= limit
    assert sanitise.text(safe, limit=limit) == safe
    assert "\x1b" not in safe


@pytest.mark.parametrize(
    ("raw", "known"),
    [
        ("2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z"),
        ("2026-11-22T10:00:00.123456Z", "2026-11-22T10:00:00Z"),
        ("2026-11-22T11:00:00+01:00", "2026-11-22T10:00:00Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("2026-11-22T10:00:00", None),
        ("2026-13-22T10:00:00Z", None),
        ("2026-11-22", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("9" * 1000, None),
        (1700000000, None),
        (None, None),
    ],
)
def test_timestamp(raw: Any, known: str | None) -> None:
    assert sanitise.timestamp(raw) == known


@pytest.mark.parametrize(
    ("raw", "known"),
    [(3, 3), (0, 0), (-1, 0), (True, 0), ("3", 0), (2.5, 0), (None, 0), (2**40, 2**31 - 1)],
)
def test_a30_count(raw: Any, known: int) -> None:
    assert sanitise.count(raw) == known


def test_a30_quantities() -> None:
    good = {"cpu": "100m", "memory": "1.5Gi", "example.com/gpu": "1", "x": "1e3", "y": "-1"}
    bad = {"a": "1 Gi", "b": "", "c": 5, "d": "NaN", "e": "1e999", "f/g/h": "1", "": "1", "i": "1" * 99}
    assert sanitise.quantities({**good, **bad}) == good
    assert sanitise.quantities([]) is None
    assert len(sanitise.quantities({f"r{i}": "1" for i in range(1000)}) or {}) == 64


@given(ANYTHING)
def test_a30_nothing_raises_and_all_is_json(raw: Any) -> None:
    found = [
        sanitise.message(raw),
        sanitise.flag(raw),
        sanitise.count(raw),
        sanitise.exit_code(raw),
        sanitise.user_id(raw),
        sanitise.timestamp(raw),
        sanitise.quantities(raw),
        sanitise.one_of(raw, frozenset({"a"})),
        sanitise.address(raw) if isinstance(raw, str) else None,
    ]
    json.dumps(found, allow_nan=False)
    assert (
        sanitise.objects(raw) == [entry for entry in raw if isinstance(entry, dict)] if isinstance(raw, list) else True
    )
