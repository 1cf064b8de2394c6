import structlog

from kube.objects import ConfigMap, Metadata
from kube.store import Change, Evidence, MutableStore, Tombstone


def _item(name: str, version: int | str, *, uid: str = "", labels: dict[str, str] | None = None) -> ConfigMap:
    metadata = Metadata(
        name=name, namespace="ns", uid=uid or f"uid-{name}", resource_version=str(version), labels=labels or {}
    )
    return ConfigMap(metadata=metadata)


def _store(*items: ConfigMap) -> MutableStore[ConfigMap]:
    store: MutableStore[ConfigMap] = MutableStore()
    store.replace({item.metadata.key: item for item in items}, resource_version="50")
    return store


def _replace(store: MutableStore[ConfigMap], *items: ConfigMap, version: int = 60) -> list[Change[ConfigMap]]:
    return store.replace({item.metadata.key: item for item in items}, resource_version=str(version))


A = ("ns", "a")


def test_f8_older_and_repeated_events_change_nothing() -> None:
    store = _store()
    first, second = _item("a", 51), _item("a", 52)
    assert store.upsert(first) == Change(A, None, first, False)
    assert store.upsert(second) == Change(A, first, second, False)
    assert store.upsert(first) is None
    assert store.upsert(second) is None
    assert store.get(A) is second
    # Compared as numbers: "100" is later than "52".
    assert store.upsert(_item("a", 100)) is not None


def test_f8_a_replayed_event_does_not_raise_the_dead() -> None:
    store = _store(_item("a", 10))
    assert store.remove(_item("a", 55).metadata) is not None
    assert store.upsert(_item("a", 10)) is None
    assert store.upsert(_item("a", 55)) is None
    assert store.upsert(_item("a", 54, uid="even older")) is None
    assert store.get(A) is None
    assert store.upsert(_item("a", 56, uid="new")) is not None


def test_f8_a_replayed_delete_does_not_kill_the_living() -> None:
    store = _store(_item("a", 55, uid="new"))
    assert store.remove(_item("a", 54, uid="old").metadata) is None
    assert store.remove(_item("a", 54, uid="new").metadata) is None
    assert store.remove(_item("a", 56, uid="old").metadata) is None
    assert store.get(A) is not None


def test_f29_the_same_name_with_another_uid() -> None:
    store = _store(_item("a", 10, uid="one"))
    change = store.upsert(_item("a", 60, uid="two"))
    assert change is not None
    assert change.old is not None
    assert store.tombstone(A) == Tombstone("one", Evidence.WATCH, "10")
    assert store.upsert(_item("a", 59, uid="one")) is None


def test_versions_that_are_no_numbers_are_taken_as_they_come() -> None:
    store = _store(_item("a", "x"))
    assert store.upsert(_item("a", "b")) is not None
    assert store.upsert(_item("a", "b")) is None


def test_list_replaces_by_uid_and_tells_the_difference() -> None:
    store = _store(_item("a", 1), _item("b", 2), _item("c", 3), *(_item(f"n{n}", 4) for n in range(10)))
    rest = [_item(f"n{n}", 4) for n in range(10)]
    changes = _replace(store, _item("a", 1), _item("b", 55), _item("d", 56), *rest)
    told = {(change.key[1], change.old is None, change.new is None) for change in changes}
    assert told == {("b", False, False), ("d", True, False), ("c", False, True)}
    assert store.tombstone(("ns", "c")) == Tombstone("uid-c", Evidence.LIST, "3")


def test_a_list_with_another_uid_proves_that_the_old_one_is_gone() -> None:
    store = _store(_item("a", 1, uid="one"), _item("b", 1))
    _replace(store, _item("a", 55, uid="two"), _item("b", 1))
    assert store.tombstone(A) == Tombstone("one", Evidence.LIST, "1")


def test_f13_a_stale_list_neither_reverts_nor_removes() -> None:
    store = _store()
    newer, made = _item("a", 70), _item("b", 71)
    store.upsert(newer)
    store.upsert(made)
    assert _replace(store, _item("a", 55), version=60) == []
    assert store.get(A) is newer
    assert store.get(("ns", "b")) is made


def test_f12_when_a_large_share_vanishes_it_is_only_suspected() -> None:
    def evidence(total: int, left: int) -> Evidence:
        items = [_item(f"n{n}", 1) for n in range(total)]
        store = _store(*items)
        _replace(store, *items[:left])
        grave = store.tombstone(("ns", f"n{total - 1}"))
        assert grave is not None
        return grave.evidence

    assert evidence(10, 0) is Evidence.SUSPECT
    assert evidence(1, 0) is Evidence.SUSPECT
    assert evidence(100, 79) is Evidence.SUSPECT
    assert evidence(100, 80) is Evidence.LIST
    assert evidence(10, 5) is Evidence.SUSPECT
    assert evidence(10, 6) is Evidence.LIST


def test_what_a_suspect_list_removed_comes_back_with_the_next_list() -> None:
    item = _item("a", 1)
    store = _store(item)
    _replace(store)
    assert store.get(A) is None
    assert _replace(store, item, version=61) == [Change(A, None, item, False)]


def test_f37_undecodable_objects_stay() -> None:
    store = _store(_item("a", 1), _item("b", 1))
    assert store.replace({}, resource_version="60", undecodable={A, ("ns", "b")}) == []
    assert len(store) == 2


def test_force_believes_a_list_from_the_past_but_suspects_it() -> None:
    store = _store(_item("a", 40), _item("b", 41))
    old = _item("a", 5)
    changes = store.replace({A: old}, resource_version="10", force=True)
    assert len(changes) == 2
    assert store.get(A) is old
    grave = store.tombstone(("ns", "b"))
    assert grave is not None
    assert grave.evidence is Evidence.SUSPECT


def test_indexes_follow_changes() -> None:
    store: MutableStore[ConfigMap] = MutableStore(indexes={"app": lambda item: item.metadata.labels.values()})
    store.upsert(_item("a", 1, labels={"app": "x"}))
    store.upsert(_item("b", 2, labels={"app": "x", "more": "y"}))
    assert [item.metadata.name for item in store.by_index("app", "x")] == ["a", "b"]
    store.upsert(_item("a", 3, labels={"app": "y"}))
    assert [item.metadata.name for item in store.by_index("app", "x")] == ["b"]
    assert [item.metadata.name for item in store.by_index("app", "y")] == ["b", "a"]
    store.remove(_item("b", 4).metadata)
    assert store.by_index("app", "x") == []
    _replace(store)
    assert store.by_index("app", "y") == []


def test_f37_an_index_that_fails_concerns_one_object() -> None:
    def index(item: ConfigMap) -> list[str]:
        if item.metadata.name == "bad":
            raise ValueError("cannot read")
        return ["all"]

    store: MutableStore[ConfigMap] = MutableStore(indexes={"i": index})
    with structlog.testing.capture_logs() as logs:
        store.upsert(_item("bad", 1))
        store.upsert(_item("good", 2))
    assert [item.metadata.name for item in store.by_index("i", "all")] == ["good"]
    assert len(store) == 2
    assert [entry["event"] for entry in logs] == ["index_failed"]


def test_i8_graves_are_bounded() -> None:
    store = _store()
    for number in range(17_000):
        store.upsert(_item(f"n{number}", 100 + number))
        store.remove(_item(f"n{number}", 20_000 + number).metadata)
    assert store.tombstone(("ns", "n0")) is None
    assert store.tombstone(("ns", "n16999")) is not None


def test_whether_an_index_has_a_value_is_told_without_a_list() -> None:
    store: MutableStore[ConfigMap] = MutableStore(indexes={"namespace": lambda item: (item.metadata.namespace,)})
    assert not store.any_by_index("namespace", "ns")
    item = _item("a", 1)
    store.upsert(item)
    assert store.any_by_index("namespace", "ns")
    store.remove(item.metadata)
    assert not store.any_by_index("namespace", "ns")


def test_a_store_may_keep_less_than_what_changes_carry() -> None:
    def bare(item: ConfigMap) -> ConfigMap:
        known = Metadata(name=item.metadata.name, namespace="ns", uid=item.metadata.uid, resource_version="51")
        return ConfigMap(metadata=known)

    store: MutableStore[ConfigMap] = MutableStore(
        kept=bare, indexes={"app": lambda item: [item.metadata.labels["app"]] if item.metadata.labels else ["none"]}
    )
    whole = _item("a", 51, labels={"app": "x"})
    change = store.upsert(whole)
    assert change is not None
    assert change.new is whole
    assert store.get(A) == bare(whole)
    assert store.by_index("app", "none") == [bare(whole)]
    assert store.upsert(whole) is None
    assert store.remove(whole.metadata) is not None
    assert not store.any_by_index("app", "none")
