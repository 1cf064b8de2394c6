"""From a forged pod to a ShadowPod, its changes, and what is read from it."""

import json
from typing import Any

import msgspec

from kube.objects import Metadata, Object
from kube.store import MutableStore
from reflection.forge import names
from reflection.managed import template
from reflection.managed.names import SHADOW_LABEL
from reflection.managed.writer import ShadowRemotes
from reflection.remotes import Recorded, Seen

Json = dict[str, Any]
ORIGIN = {names.ORIGIN_NAMESPACE: "shop", names.ORIGIN_NAME: "web", names.ORIGIN_UID: "u1"}
LABELS = {names.NODE_LABEL: "n", names.CONSUMER_LABEL: "blue"}


def body(**spec: Any) -> Json:
    return {
        "metadata": {
            "name": "web",
            "namespace": "shop-blue",
            "labels": {"app": "web", **LABELS},
            "annotations": {"a": "b", names.CARRIED: "r1", **ORIGIN},
        },
        "spec": {"containers": [{"name": "main", "image": "a:1"}, {"name": "side", "image": "s:1"}], **spec},
    }


def remote(*, status: Json | None = None, labels: Json | None = None, **spec: Any) -> Object:
    made = template.shadow(body())
    meta = made["metadata"]
    return Object(
        metadata=Metadata(
            name="web",
            namespace="shop-blue",
            uid="s1",
            resource_version="5",
            generation=3,
            labels=meta["labels"] if labels is None else labels,
            annotations=meta["annotations"],
        ),
        spec=msgspec.Raw(json.dumps({**made["spec"], **spec}).encode()),
        status=msgspec.Raw(json.dumps(status or {}).encode()),
    )


def pod(*, phase: str = "Running", carried: str = "r1", shadow: str = "s1", version: str = "1") -> Object:
    return Object(
        metadata=Metadata(
            name="web",
            namespace="shop-blue",
            uid="p1",
            resource_version=version,
            labels={SHADOW_LABEL: shadow},
            annotations={names.CARRIED: carried},
        ),
        status=msgspec.Raw(json.dumps({"phase": phase}).encode()),
    )


def pods(*shown: Object) -> MutableStore[Object]:
    store: MutableStore[Object] = MutableStore()
    for one in shown:
        store.upsert(one)
    return store


def remotes() -> ShadowRemotes:
    return ShadowRemotes(None)  # type: ignore[arg-type]  # nothing is asked


def test_a_shadow_pod_says_whose_it_is_and_what_is_asked_comes_back() -> None:
    asked = template.asked(remote())
    assert remote().metadata.annotations == ORIGIN
    assert asked["spec"] == body()["spec"]
    assert asked["metadata"]["labels"] == body()["metadata"]["labels"]
    assert asked["metadata"]["annotations"] == body()["metadata"]["annotations"]


def test_labels_by_which_it_is_found_are_missed_where_the_shadow_pod_lost_them() -> None:
    lost = template.asked(remote(labels={names.CONSUMER_LABEL: "blue"}))["metadata"]["labels"]
    assert names.NODE_LABEL not in lost
    back = template.change(remote(), {"metadata": {"labels": {names.NODE_LABEL: "n"}}})
    assert back["metadata"]["labels"] == {names.NODE_LABEL: "n"}


def test_a_change_keeps_what_it_does_not_name() -> None:
    patch = {
        "metadata": {"labels": {"app": None}, "annotations": {names.CARRIED: "r2"}},
        "spec": {
            "containers": [{"name": "main", "image": "a:2"}],
            "ephemeralContainers": [{"name": "debug"}],
            "activeDeadlineSeconds": 9,
        },
    }
    found = template.change(remote(), patch)
    assert found["metadata"] == {"uid": "s1", "resourceVersion": "5"}
    assert found["spec"]["pod"] == {
        "metadata": {"labels": {"app": None}, "annotations": {names.CARRIED: "r2"}},
        "spec": {
            "containers": [{"name": "main", "image": "a:2"}, {"name": "side", "image": "s:1"}],
            "ephemeralContainers": [{"name": "debug"}],
            "activeDeadlineSeconds": 9,
        },
    }


def test_a_resize_is_merged_into_what_was_asked() -> None:
    given = {"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "2"}}}]}}
    main = template.change(remote(), given)["spec"]["pod"]["spec"]["containers"][0]
    assert main == {"name": "main", "image": "a:1", "resources": {"requests": {"cpu": "2"}}}


def test_a_new_shadow_pod_is_a_pending_pod() -> None:
    seen = remotes().seen(remote(), pods())
    assert isinstance(seen, Seen)
    assert seen.pod["status"] == {"phase": "Pending"}


def test_a_pod_of_another_shadow_pod_is_not_its_own() -> None:
    seen = remotes().seen(remote(), pods(pod(shadow="s0")))
    assert isinstance(seen, Seen)
    assert seen.pod["status"] == {"phase": "Pending"}


def test_a_pod_is_current_once_it_carries_what_was_asked() -> None:
    for carried, current in (("r1", True), ("r0", False)):
        seen = remotes().seen(remote(), pods(pod(carried=carried)))
        assert isinstance(seen, Seen)
        assert (seen.pod["status"]["phase"], seen.current) == ("Running", current)


def test_a_pod_that_a_list_lacks_is_not_called_gone() -> None:
    status = {"phase": "Running", "podUID": "p1"}
    assert remotes().seen(remote(status=status), pods()) is None


def test_a_pod_that_was_seen_to_go_is_pending_until_the_next() -> None:
    store = pods(pod())
    store.remove(pod(version="2").metadata)
    seen = remotes().seen(remote(status={"phase": "Running", "podUID": "p1"}), store)
    assert isinstance(seen, Seen)
    assert seen.pod["status"] == {"phase": "Pending"}


def test_an_end_is_told_by_the_pod_itself_while_it_is_there() -> None:
    ended = {"phase": "Failed", "reason": "Evicted", "podUID": "p1"}
    assert remotes().seen(remote(status=ended), pods(pod())) is None
    seen = remotes().seen(remote(status=ended), pods(pod(phase="Failed")))
    assert isinstance(seen, Seen)
    assert remotes().seen(remote(status=ended), pods()) == Recorded("Failed", "Evicted", "")


def test_a_refusal_is_one_only_while_no_pod_is_there() -> None:
    said = {"type": "Accepted", "status": "False", "reason": "QuotaExceeded", "message": "full"}
    refusal = remotes().refusal(remote(status={"conditions": [said]}))
    assert refusal is not None
    assert str(refusal) == "provider: QuotaExceeded: full"
    assert remotes().refusal(remote(status={"phase": "Running", "conditions": [said]})) is None


def test_a_refused_change_counts_for_its_generation_only() -> None:
    said = {"type": "InStep", "status": "False", "reason": "Forbidden", "message": "no", "observedGeneration": 3}
    assert "no" in remotes().change_refusal(remote(status={"conditions": [said]}))
    assert not remotes().change_refusal(remote(status={"conditions": [{**said, "observedGeneration": 2}]}))


def test_whatever_the_provider_says_is_read() -> None:
    nonsense = Object(
        metadata=Metadata(name="a", namespace="b"), spec=msgspec.Raw(b"{}"), status=msgspec.Raw(b'{"phase": 7}')
    )
    assert isinstance(remotes().seen(nonsense, pods()), Seen)
