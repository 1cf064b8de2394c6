"""Addresses that stand for what is outside."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netfabric.plan import external
from netfabric.plan.external import ExternalInput
from netfabric.plan.model import Kind, Own, Problem
from netfabric.plan.spans import span

OWN = Own(
    networks=(
        (Kind.POD, span("10.0.0.0/16")),
        (Kind.EXTERNAL, span("10.9.0.0/29")),
        (Kind.EXTERNAL, span("fd99::/64")),
        (Kind.EXTERNAL, span("10.0.9.0/24")),
    )
)


def wanted(*names: str, address: str = "192.168.7.9") -> list[ExternalInput]:
    return [ExternalInput(name=name, address=address) for name in names]


def test_each_gets_one_of_its_family_and_none_that_has_another_use() -> None:
    found = external.allocate(OWN, [*wanted("a", "b"), *wanted("c", address="2001:db8::1")])
    assert found == {"a": "10.9.0.2", "b": "10.9.0.3", "c": "fd99::2"}
    assert external.sources(OWN) == {4: "10.9.0.1", 6: "fd99::1"}


def test_a_full_network_is_told() -> None:
    found = external.allocate(OWN, wanted(*"abcdefgh"))
    assert [one for one in found.values() if isinstance(one, str)] == [f"10.9.0.{n}" for n in range(2, 8)]
    problem = found["h"]
    assert isinstance(problem, Problem)
    assert problem.reason == "NetworkFull"


@pytest.mark.parametrize(
    ("address", "own", "reason"),
    [
        ("10.0.0.7", OWN, "NotExternal"),
        ("10.9.0.3", OWN, "NotExternal"),
        ("nowhere", OWN, "InvalidAddress"),
        ("192.168.7.9", Own(), "NoExternalNetwork"),
    ],
)
def test_what_cannot_be_is_told(address: str, own: Own, reason: str) -> None:
    problem = external.allocate(own, wanted("a", address=address))["a"]
    assert isinstance(problem, Problem)
    assert problem.reason == reason


@given(
    before=st.sets(st.sampled_from("abcdefghij")),
    after=st.sets(st.sampled_from("abcdefghij")),
    forged=st.dictionaries(st.sampled_from("abcdefghij"), st.sampled_from(["10.9.0.1", "10.9.0.3", "10.0.0.4", "x"])),
)
def test_what_is_in_use_stays_and_two_never_have_the_same(
    before: set[str], after: set[str], forged: dict[str, str]
) -> None:
    first = {name: one for name, one in external.allocate(OWN, wanted(*before)).items() if isinstance(one, str)}
    held = [replace(one, held=first.get(one.name, forged.get(one.name, ""))) for one in wanted(*after)]
    found = {name: one for name, one in external.allocate(OWN, held).items() if isinstance(one, str)}
    assert len(set(found.values())) == len(found)
    assert not {"10.9.0.0", "10.9.0.1"} & set(found.values())
    kept = {name for name in after & first.keys() if first[name] not in forged.values()}
    assert all(found[name] == first[name] for name in kept)
