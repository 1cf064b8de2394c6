"""From a ShadowPod to its pod and back: what is set by the provider, what is passed on, how ends are judged."""

from typing import Any

import msgspec
import pytest

from api.offloading.shadow_pod import ShadowPod
from reflection.managed import pod as forging
from reflection.managed.names import APPLIED
from reflection.managed.pod import Course
from reflection.managed.settings import Limits

Json = dict[str, Any]
CONSUMER = "offloading.isthmus.dev/consumer"
SHADOW = "offloading.isthmus.dev/shadow-pod"
BASE = "offloading.isthmus.dev/restart-base"


def shadow(*, labels: Json | None = None, annotations: Json | None = None, **spec: Any) -> ShadowPod:
    asked = {"containers": [{"name": "main", "image": "a:1"}], **spec}
    body = {
        "metadata": {"name": "web", "namespace": "shop-blue", "uid": "s1"},
        "spec": {"pod": {"metadata": {"labels": labels or {}, "annotations": annotations or {}}, "spec": asked}},
    }
    return msgspec.json.decode(msgspec.json.encode(body), type=ShadowPod)


def forged(asked: ShadowPod, **options: Any) -> Json:
    made = forging.forge(asked, forging.template(asked), consumer_id="blue", **options)
    return {**made, "status": {"phase": "Running"}}


def changes(asked: ShadowPod, running: Json) -> Any:
    return forging.changes(asked, forging.template(asked), running, consumer_id="blue")


def test_a27_what_isthmus_relies_on_is_set_by_the_provider() -> None:
    asked = shadow(labels={CONSUMER: "red", "app": "web"}, automountServiceAccountToken=True, ephemeralContainers=[{}])
    made = forged(asked)
    assert made["metadata"]["labels"] == {
        "app": "web",
        "app.kubernetes.io/managed-by": "isthmus",
        CONSUMER: "blue",
        SHADOW: "s1",
    }
    assert made["metadata"]["ownerReferences"][0]["uid"] == "s1"
    assert made["metadata"]["finalizers"] == [SHADOW]
    assert made["spec"]["automountServiceAccountToken"] is False
    assert "ephemeralContainers" not in made["spec"]


def test_a_consumer_that_is_confined_to_nodes_can_choose_no_others() -> None:
    asked = shadow(nodeSelector={"pool": "all", "kubernetes.io/arch": "arm64"})
    made = forged(asked, limits=Limits(node_selector={"pool": "blue"}))
    assert made["spec"]["nodeSelector"] == {"pool": "blue", "kubernetes.io/arch": "arm64"}


def test_nothing_is_passed_on_to_a_pod_as_it_was_made_whatever_admission_did_to_it() -> None:
    asked = shadow(labels={"app": "web"}, annotations={"a": "b"})
    running = forged(asked)
    running["metadata"]["labels"]["injected"] = "yes"
    running["spec"]["containers"] = [{"name": "main", "image": "mirror/a:1"}, {"name": "sidecar", "image": "s"}]
    assert not changes(asked, running)


def test_what_changed_is_passed_on_and_only_that() -> None:
    running = forged(shadow(labels={"app": "web", "old": "1"}), restart_base={"main": 2})
    found = changes(
        shadow(
            labels={"app": "new"},
            containers=[{"name": "main", "image": "a:2", "resources": {"limits": {"cpu": "2"}}}],
            activeDeadlineSeconds=9,
            ephemeralContainers=[{"name": "debug", "image": "d"}],
        ),
        running,
    )
    assert found.patch["metadata"]["labels"] == {"app": "new", "old": None}
    assert set(found.patch["metadata"]["annotations"]) == {APPLIED}
    assert found.patch["spec"] == {"containers": [{"name": "main", "image": "a:2"}], "activeDeadlineSeconds": 9}
    assert found.resize == {"spec": {"containers": [{"name": "main", "resources": {"limits": {"cpu": "2"}}}]}}
    assert found.ephemeral == {"spec": {"ephemeralContainers": [{"name": "debug", "image": "d"}]}}


def test_our_labels_are_put_back() -> None:
    asked = shadow()
    running = forged(asked)
    del running["metadata"]["labels"][SHADOW]
    assert changes(asked, running).patch == {"metadata": {"labels": {SHADOW: "s1"}}}


def judged(status: Json, *, metadata: Json | None = None, policy: str = "Always") -> forging.Verdict:
    asked = forging.template(shadow(restartPolicy=policy))
    return forging.judge(asked, {"metadata": metadata or {}, "spec": {}, "status": status})


STARTED: Json = {"containerStatuses": [{"name": "main", "containerID": "c", "restartCount": 3}]}
GOING: Json = {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30}
OVER: Json = {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0}


@pytest.mark.parametrize(
    ("status", "metadata", "policy", "course", "phase"),
    [
        ({"phase": "Running"}, {}, "Always", Course.ALIVE, "Running"),
        ({}, {}, "Always", Course.ALIVE, "Pending"),
        ({"phase": "Succeeded"}, {}, "Never", Course.ENDED, "Succeeded"),
        ({"phase": "Failed", "reason": "Evicted"}, {}, "Always", Course.ENDED, "Failed"),
        ({"phase": "Running", **STARTED}, GOING, "Always", Course.GOING, ""),
        ({"phase": "Running", **STARTED}, GOING, "Never", Course.GOING, ""),
        ({"phase": "Running", **STARTED}, OVER, "Always", Course.OVER, ""),
        ({"phase": "Failed", **STARTED}, GOING, "Always", Course.OVER, ""),
        ({"phase": "Failed", **STARTED}, GOING, "OnFailure", Course.OVER, ""),
        ({"phase": "Succeeded", **STARTED}, GOING, "OnFailure", Course.ENDED, "Succeeded"),
        ({"phase": "Failed", **STARTED}, OVER, "Never", Course.ENDED, "Failed"),
        ({"phase": "Running", **STARTED}, OVER, "Never", Course.ENDED, "Failed"),
        ({"phase": "Pending"}, OVER, "Never", Course.OVER, ""),
    ],
)
def test_how_a_pod_is_judged(status: Json, metadata: Json, policy: str, course: Course, phase: str) -> None:
    verdict = judged(status, metadata=metadata, policy=policy)
    assert (verdict.course, verdict.phase) == (course, phase)


def test_restarts_go_on_counting_in_the_next_pod() -> None:
    metadata = {**OVER, "annotations": {BASE: '{"main": 2}'}}
    assert judged({"phase": "Running", **STARTED}, metadata=metadata).restarts == {"main": 6}
