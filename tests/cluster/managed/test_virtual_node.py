"""A virtual node in managed mode: pods through ShadowPods, namespaces through NamespaceMaps, with those rights only."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from deploy import stack
from deploy.lab.components.kwok import HOLD_ANNOTATION
from deploy.lab.lab import Lab
from tests import history
from tests.cluster.managed.conftest import LONG, SHOP_ID
from tests.kubectl import Kubectl, admin, eventually

Json = dict[str, Any]


@dataclass(frozen=True)
class Shop:
    """A namespace of the consumer, and the provider's one for it, as the administrators see them."""

    here: Kubectl
    there: Kubectl
    node: stack.VirtualNode

    def pod(self, name: str, *, held: bool = False, metadata: Json | None = None, **spec: Any) -> Json:
        """Create a pod on the virtual node; a held one gets no status but what `set_status` writes."""
        given = metadata or {}
        hold = {HOLD_ANNOTATION: "true"} if held else {}
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, **given, "annotations": {**hold, **given.get("annotations", {})}},
            "spec": {
                "nodeName": self.node.name,
                "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "main", "image": "none:1"}],
                **spec,
            },
        }
        return self.here.create(body)

    def running(self, name: str, **options: Any) -> Json:
        self.pod(name, **options)
        return self.here.wait_for("pod", name, lambda it: it["status"]["phase"] == "Running", timeout=LONG)

    def remote_uid(self, name: str) -> str:
        return str(self.there.get("pod", name)["metadata"]["uid"])

    def held(self, name: str, **options: Any) -> None:
        """A pod that runs as far as the test says so."""
        self.pod(name, held=True, **options)
        self.there.wait_for("pod", name, lambda it: it["spec"].get("nodeName"), timeout=LONG)

    def set_status(self, name: str, phase: str, *, restarts: int = 0, code: int = 0) -> None:
        """Play the provider's kubelet."""
        at = "2026-01-01T00:00:00Z"
        over = {"terminated": {"exitCode": code, "reason": "Done", "startedAt": at, "finishedAt": at}}
        ended = phase in ("Succeeded", "Failed")
        container = {
            "name": "main",
            "image": "none:1",
            "imageID": "none",
            "containerID": f"containerd://{restarts}",
            "ready": not ended,
            "restartCount": restarts,
            "state": over if ended else {"running": {"startedAt": at}},
        }
        body = json.dumps({"status": {"phase": phase, "containerStatuses": [container]}})
        self.there.run("patch", "pod", name, "--subresource=status", "--type=merge", "-p", body)


@pytest.fixture(scope="module")
def shop(lab: Lab, node: stack.VirtualNode) -> Iterator[Shop]:
    here = admin(lab.consumer, f"n-{uuid.uuid4().hex[:6]}")
    here.run("create", "namespace", here.namespace)
    here.wait_for("serviceaccount", "default", timeout=LONG)
    there = admin(lab.provider, f"{here.namespace}-{SHOP_ID}")
    yield Shop(here, there, node)
    here.delete("namespace", here.namespace, timeout=LONG)
    eventually(lambda: not there.exists("namespace", there.namespace), what="the provider's namespace", timeout=LONG)
    desk = replace(there, namespace=f"isthmus-{SHOP_ID}")
    eventually(lambda: not desk.list("namespacemaps"), what="its NamespaceMap to go", timeout=LONG)


def test_a_pod_runs_by_way_of_a_shadow_pod_and_ends_with_its_grace(shop: Shop, lab: Lab) -> None:
    shop.here.run("create", "configmap", "settings", "--from-literal=a=b")
    volume = {"volumes": [{"name": "v", "configMap": {"name": "settings"}}]}
    pod = shop.running("web", metadata={"labels": {"app": "web"}}, **volume)
    remote, shadow = shop.there.get("pod", "web"), shop.there.get("shadowpod", "web")
    assert remote["metadata"]["ownerReferences"][0]["uid"] == shadow["metadata"]["uid"]
    assert remote["metadata"]["annotations"]["offloading.isthmus.dev/origin-uid"] == pod["metadata"]["uid"]
    assert remote["metadata"]["labels"]["app"] == "web"
    assert shop.there.get("configmap", "settings")["data"] == {"a": "b"}
    assert pod["status"]["containerStatuses"][0]["ready"]
    shop.here.delete("pod", "web", "--grace-period=7", "--wait=false")
    shop.here.wait_gone("pod", "web", timeout=LONG)
    assert not shop.there.exists("pod", "web")
    assert not shop.there.exists("shadowpod", "web")
    told = [
        entry.request.get("gracePeriodSeconds")
        for entry in history.read(lab.provider.audit_log)
        if entry.user == stack.MANAGER_USER and entry.target == ("delete", "pods", "", shop.there.namespace, "web")
    ]
    assert set(told) == {7}


def test_a21_the_providers_refusal_is_on_the_consumers_pod(shop: Shop) -> None:
    shop.pod("root", containers=[{"name": "main", "image": "none:1", "securityContext": {"privileged": True}}])
    pod = shop.here.wait_for("pod", "root", lambda it: it["status"]["reason"] == "OffloadRefused", timeout=LONG)
    assert "Forbidden" in pod["status"]["message"]
    assert "privileged" in pod["status"]["message"]
    assert pod["status"]["phase"] == "Pending"
    found = eventually(
        lambda: [e for e in shop.here.list("events") if e["involvedObject"]["name"] == "root"], what="an event"
    )
    assert any("privileged" in event["message"] for event in found)
    assert not shop.there.exists("pod", "root")
    shop.here.delete("pod", "root", timeout=LONG)
    assert not shop.there.exists("shadowpod", "root")


def test_a_pod_that_was_refused_runs_once_the_reason_is_gone(shop: Shop) -> None:
    shop.there.run("create", "quota", "none", "--hard=pods=0")
    shop.there.wait_for("quota", "none", lambda it: it["status"]["hard"]["pods"] == "0")
    shop.pod("late")
    shop.here.wait_for("pod", "late", lambda it: "QuotaExceeded" in it["status"]["message"], timeout=LONG)
    shop.there.delete("quota", "none")
    pod = shop.here.wait_for("pod", "late", lambda it: it["status"]["phase"] == "Running", timeout=LONG)
    assert not pod["status"].get("reason")
    shop.here.delete("pod", "late", timeout=LONG)


def test_changes_reach_the_providers_pod(shop: Shop) -> None:
    shop.held("changed", metadata={"labels": {"old": "1"}})
    shop.set_status("changed", "Running")
    patch = {
        "metadata": {"labels": {"old": None, "new": "2"}},
        "spec": {"containers": [{"name": "main", "image": "none:2"}]},
    }
    shop.here.run("patch", "pod", "changed", "-p", json.dumps(patch))
    debug = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "none:3"}]}}
    shop.here.run("patch", "pod", "changed", "--subresource=ephemeralcontainers", "-p", json.dumps(debug))

    def passed_on(pod: Json) -> bool:
        spec, labels = pod["spec"], pod["metadata"]["labels"]
        return (
            spec["containers"][0]["image"] == "none:2"
            and spec["ephemeralContainers"][0]["name"] == "debug"
            and (labels.get("old"), labels["new"]) == (None, "2")
        )

    shop.there.wait_for("pod", "changed", passed_on, timeout=LONG)
    shop.here.delete("pod", "changed", timeout=LONG)


def test_a_change_that_the_provider_refuses_is_told(shop: Shop) -> None:
    shop.held("kept")
    shop.set_status("kept", "Running")
    container = {"name": "debug", "image": "none:3", "securityContext": {"privileged": True}}
    body = json.dumps({"spec": {"ephemeralContainers": [container]}})
    shop.here.run("patch", "pod", "kept", "--subresource=ephemeralcontainers", "-p", body)

    def told() -> bool:
        return any(
            e["reason"] == "ChangeRefused" and "privileged" in e["message"]
            for e in shop.here.list("events")
            if e["involvedObject"]["name"] == "kept"
        )

    eventually(told, what="an event", timeout=LONG)
    assert shop.here.get("pod", "kept")["status"]["phase"] == "Running"
    shop.here.delete("pod", "kept", timeout=LONG)


# -- the provider's pods vanish


def test_f24_a_pod_that_is_deleted_while_the_consumer_is_away_is_made_again_by_the_provider(shop: Shop) -> None:
    shop.held("web")
    shop.set_status("web", "Running")
    pod = shop.here.wait_for("pod", "web", lambda it: it["status"]["phase"] == "Running", timeout=LONG)
    uid, first = pod["metadata"]["uid"], shop.remote_uid("web")
    shop.node.unit.kill()
    try:
        shop.there.delete("pod", "web", "--wait=false")
        eventually(lambda: shop.remote_uid("web") != first, what="another pod", timeout=LONG)
        shop.set_status("web", "Running")
    finally:
        shop.node.unit.start()
    shop.node.wait_ready(timeout=LONG)

    def goes_on(pod: Json) -> bool:
        status = pod["status"]["containerStatuses"][0]
        return bool(pod["status"]["phase"] == "Running" and status["ready"] and status["restartCount"] == 1)

    pod = shop.here.wait_for("pod", "web", goes_on, timeout=LONG)
    assert pod["metadata"]["uid"] == uid
    shop.here.delete("pod", "web", timeout=LONG)


def test_a_pod_that_completes_while_the_consumer_is_away_is_not_run_again(shop: Shop) -> None:
    shop.held("job", restartPolicy="OnFailure")
    shop.set_status("job", "Running")
    shop.here.wait_for("pod", "job", lambda it: it["status"]["phase"] == "Running", timeout=LONG)
    shop.node.unit.kill()
    try:
        shop.set_status("job", "Succeeded")
        shop.there.wait_for("shadowpod", "job", lambda it: it["status"]["phase"] == "Succeeded", timeout=LONG)
        shop.there.delete("pod", "job", timeout=LONG)
    finally:
        shop.node.unit.start()
    pod = shop.here.wait_for("pod", "job", lambda it: it["status"]["phase"] == "Succeeded", timeout=LONG)
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
    shop.running("after")
    assert not shop.there.exists("pod", "job")
    shop.here.delete("pod", "job", "after", timeout=LONG)


def test_a_pod_that_fails_and_goes_at_once_keeps_its_exit_code(shop: Shop) -> None:
    shop.held("fails", restartPolicy="Never")
    shop.set_status("fails", "Running")
    shop.here.wait_for("pod", "fails", lambda it: it["status"]["phase"] == "Running", timeout=LONG)
    shop.set_status("fails", "Failed", code=3)
    shop.there.delete("pod", "fails", timeout=LONG)
    pod = shop.here.wait_for("pod", "fails", lambda it: it["status"]["phase"] == "Failed", timeout=LONG)
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    shop.here.delete("pod", "fails", timeout=LONG)


def test_a_pod_that_may_not_run_twice_fails_when_it_is_lost(shop: Shop) -> None:
    shop.running("once", restartPolicy="Never")
    shop.there.delete("pod", "once", "--grace-period=0", "--force", "--wait=false")
    pod = shop.here.wait_for("pod", "once", lambda it: it["status"]["phase"] == "Failed", timeout=LONG)
    assert pod["status"]["reason"] == "RemotePodLost"
    shop.here.delete("pod", "once", timeout=LONG)


def test_a_shadow_pod_that_somebody_deletes_is_a_lost_remote_pod(shop: Shop) -> None:
    uid = shop.running("web")["metadata"]["uid"]
    first = shop.remote_uid("web")
    shop.there.delete("shadowpod", "web", timeout=LONG)
    eventually(lambda: shop.remote_uid("web") != first, what="another pod", timeout=LONG)
    pod = shop.here.wait_for("pod", "web", lambda it: it["status"]["phase"] == "Running", timeout=LONG)
    assert pod["metadata"]["uid"] == uid
    shop.here.delete("pod", "web", timeout=LONG)


# -- the consumer's end


def test_a_pod_that_is_force_deleted_takes_all_along(shop: Shop) -> None:
    shop.running("web")
    shop.here.delete("pod", "web", "--grace-period=0", "--force")
    eventually(lambda: not shop.there.exists("shadowpod", "web"), what="the shadow pod to go", timeout=LONG)
    assert not shop.there.exists("pod", "web")


def test_a_successor_of_the_same_name_waits_for_its_predecessors_end(shop: Shop) -> None:
    shop.running("web")
    first = shop.remote_uid("web")
    shop.here.delete("pod", "web", "--grace-period=0", "--force")
    second = shop.running("web")
    remote = shop.there.get("pod", "web")
    assert remote["metadata"]["uid"] != first
    assert remote["metadata"]["annotations"]["offloading.isthmus.dev/origin-uid"] == second["metadata"]["uid"]
    shop.here.delete("pod", "web", timeout=LONG)


def test_nothing_is_removed_while_the_consumers_virtual_kubelet_restarts(shop: Shop) -> None:
    shop.running("web")
    first = shop.remote_uid("web")
    shop.node.unit.restart()
    shop.node.wait_ready(timeout=LONG)
    shop.running("after")
    assert shop.remote_uid("web") == first
    shop.here.delete("pod", "web", "after", timeout=LONG)
