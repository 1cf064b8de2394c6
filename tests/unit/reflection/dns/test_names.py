"""What a name of the consumer's cluster is called at the provider."""

from __future__ import annotations

import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflection.dns.names import NameTable

NAMESPACES = {"shop": "shop-consumer", "same": "same", "data": "given", "given": "given-consumer"}
TABLE = NameTable(NAMESPACES, consumer_domain="cluster.local", provider_domain="provider.example")


def name(text: str) -> dns.name.Name:
    return dns.name.from_text(text)


@pytest.mark.parametrize(
    ("asked", "there"),
    [
        ("web.shop.svc.cluster.local", "web.shop-consumer.svc.provider.example"),
        ("WEB.Shop.SVC.cluster.LOCAL", "web.shop-consumer.svc.provider.example"),
        ("db-0.db.data.svc.cluster.local", "db-0.db.given.svc.provider.example"),
        ("_http._tcp.web.same.svc.cluster.local", "_http._tcp.web.same.svc.provider.example"),
        ("10-0-0-1.shop.pod.cluster.local", "10-0-0-1.shop-consumer.pod.provider.example"),
        ("db-0.db.shop-consumer.svc.cluster.local", "db-0.db.shop-consumer.svc.provider.example"),
        ("web.given.svc.cluster.local", "web.given-consumer.svc.provider.example"),  # the consumer's word goes first
        ("web.other.svc.cluster.local", None),
        ("kubernetes.default.svc.cluster.local", None),
        ("www.example.org", "www.example.org"),
        ("cluster.local", "cluster.local"),
        ("svc.cluster.local", "svc.cluster.local"),
        ("1.0.0.10.in-addr.arpa", "1.0.0.10.in-addr.arpa"),
    ],
)
def test_a_name_there(asked: str, there: str | None) -> None:
    found = TABLE.there(name(asked))
    assert found == (None if there is None else name(there))


def test_a_name_of_the_provider_that_is_none_of_ours_stands() -> None:
    assert TABLE.here(name("web.stranger.svc.provider.example")) == name("web.stranger.svc.provider.example")


LABEL = st.from_regex(r"[a-z0-9_]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)


@given(
    rest=st.lists(LABEL, max_size=4),
    namespace=st.sampled_from(sorted(NAMESPACES)),
    kind=st.sampled_from(["svc", "pod"]),
)
def test_there_and_back_is_the_same(rest: list[str], namespace: str, kind: str) -> None:
    asked = name(".".join((*rest, namespace, kind, "cluster.local")))
    there = TABLE.there(asked)
    assert there is not None
    assert TABLE.here(there) == asked


def test_a_name_that_would_be_too_long_there_does_not_exist() -> None:
    table = NameTable({"a": "a" * 63}, consumer_domain="cluster.local", provider_domain="cluster.local")
    asked = name(".".join((*["x" * 60] * 3, "y" * 30, "a", "svc", "cluster.local")))
    assert table.there(asked) is None
