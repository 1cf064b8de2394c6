"""Sealed tokens: only for one key, only for one purpose, and not to be changed."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.keys import PrivateKey
from identity.problems import RefusedError
from identity.sealing import seal, unseal

KEY = PrivateKey.generate()
SEALED = seal("a.b.c", KEY.raw.public_key(), purpose="user")


def test_its_owner_opens_it() -> None:
    assert unseal(SEALED, KEY, purpose="user") == "a.b.c"
    assert seal("a.b.c", KEY.raw.public_key(), purpose="user") != SEALED
    assert "a.b.c" not in base64.b64decode(SEALED).decode("latin-1")


def test_nobody_else_does_nor_for_another_purpose() -> None:
    with pytest.raises(RefusedError, match="not for our key"):
        unseal(SEALED, PrivateKey.generate(), purpose="user")
    with pytest.raises(RefusedError, match="not for our key"):
        unseal(SEALED, KEY, purpose="other")


@given(at=st.integers(0, len(base64.b64decode(SEALED)) - 1), bit=st.integers(0, 7))
def test_a37_a_changed_bit_spoils_it(at: int, bit: int) -> None:
    raw = bytearray(base64.b64decode(SEALED))
    raw[at] ^= 1 << bit
    with pytest.raises(RefusedError):
        unseal(base64.b64encode(raw).decode(), KEY, purpose="user")


@given(text=st.text(max_size=300))
def test_rubbish_is_refused(text: str) -> None:
    with pytest.raises(RefusedError):
        unseal(text, KEY, purpose="user")
