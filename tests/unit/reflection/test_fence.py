"""When a claim's data is still in use at the provider by a pod that is gone here."""

from typing import Any

import msgspec
import pytest

from kube.objects import Object
from kube.store import MutableStore
from reflection.fence import holder
from reflection.forge import names

DATA: list[dict[str, Any]] = [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]
OTHER: list[dict[str, Any]] = [{"name": "d", "persistentVolumeClaim": {"claimName": "other"}}]


def remote(name: str, uid: str, volumes: list[dict[str, Any]]) -> Object:
    annotations = {names.ORIGIN_NAMESPACE: "shop", names.ORIGIN_NAME: name, names.ORIGIN_UID: uid}
    metadata = {"name": name, "namespace": "shop-lab", "uid": f"r-{uid}", "annotations": annotations}
    return made({"metadata": metadata, "spec": {"volumes": volumes}})


def made(pod: dict[str, Any]) -> Object:
    return msgspec.json.decode(msgspec.json.encode({"status": {}, **pod}), type=Object)


def origins(**uids: str) -> MutableStore[Object]:
    store: MutableStore[Object] = MutableStore()
    for name, uid in uids.items():
        store.upsert(
            made({"metadata": {"name": name, "namespace": "shop", "uid": uid, "resourceVersion": "1"}, "spec": {}})
        )
    return store


@pytest.mark.parametrize(
    ("there", "alive", "expected"),
    [
        ([remote("old", "1", DATA)], {}, "old"),
        ([remote("old", "1", DATA)], {"old": "2"}, "old"),
        ([remote("old", "1", DATA)], {"old": "1"}, None),
        ([remote("old", "1", OTHER)], {}, None),
        ([remote("new", "1", DATA)], {}, None),
        ([made({"metadata": {"name": "foreign", "namespace": "shop-lab"}, "spec": {"volumes": DATA}})], {}, None),
    ],
)
def test_only_an_orphan_of_another_name_holds_a_claim(
    there: list[Object], alive: dict[str, str], expected: str | None
) -> None:
    pod = {"metadata": {"name": "new"}, "spec": {"volumes": DATA}}
    assert holder(("shop", "new"), pod, there, origins(**alive)) == expected


def test_a_pod_without_claims_waits_for_nobody() -> None:
    pod = {"metadata": {"name": "new"}, "spec": {"volumes": [{"name": "c", "configMap": {"name": "data"}}]}}
    assert holder(("shop", "new"), pod, [remote("old", "1", DATA)], origins()) is None
