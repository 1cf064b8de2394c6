"""Spans against `ipaddress`, free places against trying each, and translation there and back."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netfabric.plan.spans import Mapping, Span, Taken, host, span
from netfabric.plan.translation import Outward, Translation

small = st.builds(lambda bits, at: Span(4, (10 << 24) + (at << bits), bits), st.integers(0, 4), st.integers(0, 15))
addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@given(first=small, second=small)
def test_overlap_and_text_are_those_of_ipaddress(first: Span, second: Span) -> None:
    one, two = ip_network(str(first)), ip_network(str(second))
    assert first.overlaps(second) == one.overlaps(two)
    assert span(str(first)) == first
    assert first.holds(second) == two.subnet_of(one)  # type: ignore[arg-type] # one family


@given(used=st.lists(small), bits=st.integers(0, 4))
def test_the_first_free_place_is_found(used: list[Span], bits: int) -> None:
    pool = span("10.0.0.0/24")
    every = [Span(4, pool.first + (at << bits), bits) for at in range(1 << (8 - bits))]
    free = [one for one in every if not any(one.overlaps(other) for other in used)]
    taken = Taken(used)
    assert taken.place(pool, bits=bits) == (free[0] if free else None)
    assert [one for one in every if taken.free(one)] == free


@given(first=addresses, bits=st.integers(0, 24), to=addresses, low=st.integers(0, 1 << 24))
def test_translation_there_and_back(first: object, bits: int, to: object, low: int) -> None:
    one, two = host(str(first)), host(str(to))
    if one.version != two.version:
        return
    outer, inner = (Span(x.version, x.first >> bits << bits, bits) for x in (one, two))
    through = Translation([Mapping(outer, inner)])
    address = str(Span(outer.version, outer.first + low % (1 << bits), 0)).partition("/")[0]
    there = through.address(address)
    assert there is not None
    assert ip_address(there) in ip_network(str(inner))
    assert through.back().address(there) == str(ip_address(address))
    assert through.network(str(outer)) == str(inner)


def test_the_longest_prefix_decides() -> None:
    wide, narrow = (
        Mapping(span(a), span(b)) for a, b in (("10.0.0.0/8", "20.0.0.0/8"), ("10.1.0.0/16", "30.1.0.0/16"))
    )
    both = Translation([wide, narrow])
    assert [both.address(one) for one in ("10.1.2.3", "10.2.2.3")] == ["30.1.2.3", "20.2.2.3"]


@pytest.mark.parametrize("text", ["", "10.0.0", "10.0.0.0/8", "fe80::1%eth0", "example.org", "10.0.0.1\n"])
def test_what_is_no_address_has_no_counterpart(text: str) -> None:
    assert Translation([Mapping(span("10.0.0.0/8"), span("10.0.0.0/8"))]).address(text) is None
    assert Outward(seen=(), theirs=()).address(text) is None


def outward() -> Outward:
    seen = [Mapping(span("10.0.0.0/16"), span("100.64.0.0/16"))]
    theirs = [Mapping(span("10.0.0.0/16"), span("100.99.0.0/16"))]
    return Outward(seen=seen, theirs=theirs)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.1.2", "100.64.1.2"),  # a pod of ours, as the peer sees us
        ("100.99.1.2", "10.0.1.2"),  # one of the peer's, at home
        ("192.168.1.1", None),  # a machine of ours
        ("100.70.0.1", None),  # of a third cluster: no transit
        ("9.9.9.9", "9.9.9.9"),  # the internet
        ("2620:fe::fe", "2620:fe::fe"),
    ],
)
def test_addresses_as_the_peers_pods_reach_them(address: str, expected: str | None) -> None:
    assert outward().address(address) == expected


@pytest.mark.parametrize(
    ("cidr", "expected"),
    [
        ("10.0.0.0/16", "100.64.0.0/16"),
        ("10.0.3.0/24", "100.64.3.0/24"),
        ("10.0.3.9/24", "100.64.3.0/24"),
        ("100.99.3.0/24", "10.0.3.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("10.0.0.0/8", None),
        ("8.0.0.0/5", None),  # part of it is private, and means something else there
        ("9.9.9.0/24", "9.9.9.0/24"),
        ("nonsense", None),
    ],
)
def test_networks_as_the_peers_pods_know_them(cidr: str, expected: str | None) -> None:
    assert outward().network(cidr) == expected
