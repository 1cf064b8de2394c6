"""Which requests a rule of the proxy takes, and how its actions alter what passes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploy.lab.proxy import rules
from deploy.lab.proxy.rules import Request, Rule


@pytest.mark.parametrize(
    ("method", "target", "verb"),
    [
        ("GET", "/api/v1/pods", "list"),
        ("GET", "/api/v1/namespaces/x/pods", "list"),
        ("GET", "/api/v1/namespaces/x/pods/y", "get"),
        ("GET", "/api/v1/namespaces/x", "get"),
        ("GET", "/api/v1/pods?allowWatchBookmarks=true&watch=1", "watch"),
        ("GET", "/api/v1/pods?watch=true", "watch"),
        ("GET", "/api/v1/pods?watch=0", "list"),
        ("GET", "/apis/coordination.k8s.io/v1/namespaces/x/leases/y", "get"),
        ("POST", "/api/v1/namespaces/x/pods", "create"),
        ("PUT", "/api/v1/namespaces/x/pods/y/status", "update"),
        ("PATCH", "/api/v1/nodes/y", "patch"),
        ("DELETE", "/api/v1/namespaces/x/pods/y", "delete"),
        ("DELETE", "/api/v1/namespaces/x/pods", "deletecollection"),
    ],
)
def test_the_verb_of_a_request(method: str, target: str, verb: str) -> None:
    path, _, query = target.partition("?")
    assert Request(method, path, query).verb == verb


def test_a_rule_is_used_up() -> None:
    rule = Rule(rules.Refuse(), path="/pods$", verb="list", times=2)
    wanted = Request("GET", "/api/v1/pods", "")
    other = Request("GET", "/api/v1/nodes", "")
    assert [rule.take(r) for r in (wanted, other, wanted, wanted)] == [True, False, True, False]
    assert rule.hits == 2


def test_a_rule_looks_at_the_query() -> None:
    rule = Rule(rules.gone(), query="resourceVersion=5")
    assert rule.take(Request("GET", "/api/v1/pods", "watch=1&resourceVersion=5"))
    assert not rule.take(Request("GET", "/api/v1/pods", "watch=1"))


def test_an_empty_list_says_that_it_is_complete() -> None:
    listing = {"items": [{"a": 1}], "metadata": {"resourceVersion": "7", "continue": "x", "remainingItemCount": 3}}
    altered = json.loads(rules.empty_list().alter(json.dumps(listing).encode()))
    assert altered == {"items": [], "metadata": {"resourceVersion": "7"}}


def test_throttling_names_its_time_twice() -> None:
    answer = rules.too_many_requests(3)
    assert ("Retry-After", "3") in answer.headers
    assert json.loads(answer.body)["details"]["retryAfterSeconds"] == 3


def test_events_replayed_come_after_the_new_one() -> None:
    alter = rules.replayed_events().alter
    events: list[dict[str, Any]] = [{"type": "ADDED", "object": {"n": n}} for n in range(3)]
    out = [alter(event) for event in events]
    assert [[e["object"]["n"] for e in got] for got in out] == [[0], [1, 0], [2, 0, 1]]


def test_bookmarks_are_not_dropped() -> None:
    alter = rules.dropped_events().alter
    assert alter({"type": "BOOKMARK", "object": {}})
    assert not alter({"type": "DELETED", "object": {}})
