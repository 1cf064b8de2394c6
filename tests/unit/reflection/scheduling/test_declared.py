"""The mapping that objects declare, from a virtual kubelet's side; and pods as the controller sees them."""

from typing import Any

import msgspec
import pytest

from api.offloading.namespaces import NamespaceOffloading
from kube.store import MutableStore
from reflection.mapping import NamespaceNotMappedError
from reflection.scheduling import names
from reflection.scheduling.declared import DeclaredMapping
from reflection.scheduling.pods import SeenPod


def _store(*entries: dict[str, Any], deleted: bool = False, **spec: Any) -> MutableStore[NamespaceOffloading]:
    store: MutableStore[NamespaceOffloading] = MutableStore()
    metadata: dict[str, Any] = {"name": "offloading", "namespace": "shop", "uid": "u", "resourceVersion": "2"}
    if deleted:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    body = {"metadata": metadata, "spec": spec, "status": {"providers": list(entries)}}
    store.upsert(msgspec.convert(body, NamespaceOffloading))
    return store


def _mapping(store: MutableStore[NamespaceOffloading]) -> DeclaredMapping:
    return DeclaredMapping(store, provider="north", consumer_id="milan")


WANTED = {"provider": "north", "namespace": "shop-milan"}


def test_a_wanted_namespace_is_mapped_and_admits() -> None:
    mapping = _mapping(_store(WANTED))

    assert mapping.remote("shop") == "shop-milan"
    mapping.admits("shop")
    assert list(mapping.known()) == ["shop-milan"]


@pytest.mark.parametrize(
    ("store", "says"),
    [
        (_store(), "does not select it"),
        (_store({"provider": "south", "namespace": "shop-milan"}), "does not select it"),
        (_store({"provider": "north", "reason": "PodsRemain"}), "does not select it"),
        (_store(WANTED, deleted=True), "is going"),
    ],
)
def test_what_is_not_wanted_keeps_its_name_and_admits_nothing(
    store: MutableStore[NamespaceOffloading], says: str
) -> None:
    """Pods that run there are looked after to their end."""
    mapping = _mapping(store)

    assert mapping.remote("shop") == "shop-milan"
    with pytest.raises(NamespaceNotMappedError, match=says):
        mapping.admits("shop")
    assert not list(mapping.known())


def test_other_namespaces_are_not_mapped() -> None:
    mapping = _mapping(_store(WANTED))

    for ask in (mapping.remote, mapping.admits):
        with pytest.raises(NamespaceNotMappedError, match="make a NamespaceOffloading"):
            ask("web")


def test_a_name_outlives_its_object() -> None:
    store = _store(WANTED)
    mapping = _mapping(store)
    mapping.remote("shop")
    mapping.learn("web", "web-milan")
    for offloading in list(store.values()):
        store.remove(offloading.metadata)

    assert mapping.remote("shop") == "shop-milan"
    assert mapping.remote("web") == "web-milan"
    mapping.forget("shop")
    with pytest.raises(NamespaceNotMappedError):
        mapping.remote("shop")


def _pod(**metadata: Any) -> SeenPod:
    body = {
        "metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:05Z", **metadata},
        "spec": {"nodeName": "n", "containers": []},
        "status": {"phase": "Running"},
    }
    return msgspec.json.decode(msgspec.json.encode(body), type=SeenPod)


def test_little_is_kept_of_a_pod() -> None:
    seen = _pod(
        annotations={"big": "x" * 1000, names.STRATEGY_MARK: "Remote"},
        labels={"app": "web"},
        ownerReferences=[{"kind": "ReplicaSet", "name": "r", "uid": "u", "controller": True}],
    )

    assert seen.metadata.annotations == {names.STRATEGY_MARK: "Remote"}
    assert not seen.metadata.labels
    assert not seen.metadata.owner_references
    assert seen.spec.node_name == "n"


@pytest.mark.parametrize(
    ("metadata", "missed"),
    [
        ({}, True),
        ({"creationTimestamp": "2026-01-01T00:00:03Z"}, False),
        ({"annotations": {names.STRATEGY_MARK: "Remote"}}, False),
        ({"annotations": {names.OPT_OUT: "true"}}, False),
        ({"labels": {names.OPT_OUT: "true"}}, False),
        ({"annotations": {"kubernetes.io/config.mirror": "x"}}, False),
        ({"ownerReferences": [{"kind": "DaemonSet", "name": "d", "uid": "u", "controller": True}]}, False),
        ({"ownerReferences": [{"kind": "DaemonSet", "name": "d", "uid": "u"}]}, True),
    ],
)
def test_a_pod_that_the_webhook_should_have_seen_was_missed(metadata: dict[str, Any], missed: bool) -> None:
    assert _pod(**metadata).was_missed(since="2026-01-01T00:00:03Z") is missed
