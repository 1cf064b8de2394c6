"""Namespace mappings: total, injective, and always valid names."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflection.mapping import DefaultName, FixedMapping, NamespaceNotMappedError

NAMESPACE = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)


def test_fixed_mapping_names_the_pair() -> None:
    assert FixedMapping({"web": "tenant-web"}).remote("web") == "tenant-web"


def test_fixed_mapping_says_which_flag_is_missing() -> None:
    with pytest.raises(NamespaceNotMappedError, match="--namespace web="):
        FixedMapping({}).remote("web")


def test_two_namespaces_may_not_share_one() -> None:
    with pytest.raises(ValueError, match="same provider namespace"):
        FixedMapping({"a": "x", "b": "x"})


@given(NAMESPACE)
def test_default_name_is_a_namespace_name(namespace: str) -> None:
    remote = DefaultName("milan").remote(namespace)
    assert len(remote) <= 63
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", remote)
    assert remote.endswith("-milan")


@given(NAMESPACE, NAMESPACE)
def test_default_names_of_two_namespaces_differ(one: str, other: str) -> None:
    mapping = DefaultName("a-consumer-with-a-name-of-some-length")
    assert (mapping.remote(one) == mapping.remote(other)) == (one == other)
