from __future__ import annotations

import pytest

from reflection.forge import metadata
from reflection.forge.names import is_ours


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("plain", '"plain"'),
        ("", '""'),
        ('say "hi"', r'"say \"hi\""'),
        ("back\\slash", r'"back\\slash"'),
        ("a\nb\tc\rd", r'"a\nb\tc\rd"'),
        ("\a\b\f\v\x00\x1b\x7f", r'"\a\b\f\v\x00\x1b\x7f"'),
        ("grüße 世界 😀", '"grüße 世界 😀"'),
        ("\u00a0\u200b\u202e\ufeff", r'"\u00a0\u200b\u202e\ufeff"'),
        ("\U000e0001", r'"\U000e0001"'),
        ("\u0085", r'"\u0085"'),
    ],
)
def test_quote_is_gos(text: str, quoted: str) -> None:
    """Expected values are what strconv.Quote gives."""
    assert metadata.quote(text) == quoted


def test_format_map_is_sorted_lines() -> None:
    assert metadata.format_map({"b": "2", "a/x": "1\n"}) == 'a/x="1\\n"\nb="2"'
    assert metadata.format_map({}) == ""


@pytest.mark.parametrize(
    ("key", "ours"),
    [
        ("offloading.isthmus.dev/node", True),
        ("isthmus.dev/x", True),
        ("notisthmus.dev/x", False),
        ("x/isthmus.dev", False),
        ("app", False),
        ("isthmus.dev.example.com/x", False),
    ],
)
def test_our_prefix(key: str, ours: bool) -> None:
    assert is_ours(key) is ours


@pytest.mark.parametrize("text", [None, "", "{", "[]", "7", '"x"'])
def test_damaged_record_reads_as_none(text: str | None) -> None:
    assert metadata.decode_record(text) == {}
