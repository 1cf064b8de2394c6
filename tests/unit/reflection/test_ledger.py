"""The ledger bridges the gap between a write and the cache that shows it."""

import pytest

from kube.objects import Metadata, Object
from kube.store import MutableStore
from reflection.ledger import ASSUMED_SECONDS, Ledger

KEY = ("web", "a")
REMOTE = ("web-milan", "a")


def pod(uid: str, version: str) -> Object:
    return Object(metadata=Metadata(name="a", namespace="web-milan", uid=uid, resource_version=version))


def test_a_created_pod_counts_before_the_cache_shows_it() -> None:
    ledger, store = Ledger(), MutableStore[Object]()
    ledger[KEY].assumed = pod("u1", "10")
    found = ledger.remote(KEY, store, REMOTE)
    assert found is not None
    assert found.metadata.uid == "u1"


def test_the_cache_wins_once_it_is_later() -> None:
    ledger, store = Ledger(), MutableStore[Object]()
    ledger[KEY].assumed = pod("u1", "10")
    store.upsert(pod("u1", "11"))
    found = ledger.remote(KEY, store, REMOTE)
    assert found is not None
    assert found.metadata.resource_version == "11"
    assert ledger[KEY].assumed is None


def test_a_predecessor_in_the_cache_does_not_hide_our_create() -> None:
    ledger, store = Ledger(), MutableStore[Object]()
    store.upsert(pod("old", "9"))
    ledger[KEY].assumed = pod("u1", "10")
    found = ledger.remote(KEY, store, REMOTE)
    assert found is not None
    assert found.metadata.uid == "u1"


def test_a_pod_that_was_seen_and_deleted_is_not_assumed_any_more() -> None:
    ledger, store = Ledger(), MutableStore[Object]()
    ledger[KEY].assumed = pod("u1", "10")
    store.upsert(pod("u1", "11"))
    store.remove(pod("u1", "12").metadata)
    assert ledger.remote(KEY, store, REMOTE) is None


def test_our_unseen_write_marks_the_cache_as_behind() -> None:
    ledger = Ledger()
    ledger[KEY].origin_version = "12"
    assert ledger.origin_is_behind(KEY, pod("u1", "11"))
    assert not ledger.origin_is_behind(KEY, pod("u1", "12"))
    assert not ledger.origin_is_behind(KEY, pod("u1", "100"))


def test_what_the_cache_never_shows_is_not_believed_in_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, now = Ledger(), 1000.0
    monkeypatch.setattr("reflection.ledger.time.monotonic", lambda: now)
    ledger[KEY].assumed, ledger[KEY].assumed_at = pod("u1", "10"), now
    assert not ledger.is_overdue(KEY)
    now += ASSUMED_SECONDS + 1
    assert ledger.is_overdue(KEY)
    ledger[KEY].assumed = None
    assert not ledger.is_overdue(KEY)
