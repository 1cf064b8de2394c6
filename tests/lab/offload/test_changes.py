"""What changes in a pod after its creation reaches the remote pod, or its owner is told that it did not."""

import json
from typing import Any

from tests import manifests as m
from tests.kubectl import Kubectl, eventually, ready

SLEEP = "trap 'exit 0' TERM; sleep 600 & wait"


def status_of(pod: dict[str, Any], container: str = "main") -> dict[str, Any]:
    """The status of a container; empty as long as there is none."""
    statuses = pod.get("status", {}).get("containerStatuses") or []
    return next((s for s in statuses if s["name"] == container), {})


def test_an_image_changed_after_creation_is_passed_on(consumer: Kubectl) -> None:
    consumer.create(m.pod("rolled", m.shell("main", SLEEP)))
    before = consumer.wait_for("pod", "rolled", ready)
    missing = "isthmus.invalid/none:2"
    consumer.run("set", "image", "pod/rolled", f"main={missing}")
    consumer.wait_for("pod", "rolled", lambda p: "waiting" in status_of(p)["state"], what="a wait for the image")
    consumer.run("set", "image", "pod/rolled", f"main={m.IMAGE}")
    after = consumer.wait_for("pod", "rolled", ready)
    assert status_of(after)["restartCount"] >= 1
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


def test_a_resize_in_place_reaches_the_container(consumer: Kubectl) -> None:
    resources = {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}}
    consumer.create(m.pod("grown", m.shell("main", SLEEP, resources=resources)))
    consumer.wait_for("pod", "grown", ready)
    new = {"requests": {"cpu": "30m", "memory": "32Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}
    patch = {"spec": {"containers": [{"name": "main", "resources": new}]}}
    consumer.run("patch", "pod", "grown", "--subresource=resize", "-p", json.dumps(patch))
    pod = consumer.wait_for("pod", "grown", lambda p: status_of(p)["resources"]["limits"]["cpu"] == "200m")
    assert status_of(pod)["restartCount"] == 0
    limit = "cut -d' ' -f1 /sys/fs/cgroup/cpu.max || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us"  # cgroup v2 or v1
    eventually(
        lambda: consumer.run("exec", "grown", "--", "sh", "-c", limit) == "20000\n",
        what="the new limit in the container",
    )
    eventually(
        lambda: _observed(consumer.get("pod", "grown")), what="the new generation to be observed and the resize over"
    )


def test_a_resize_that_the_provider_refuses_is_told_and_not_called_observed(
    consumer: Kubectl, provider: Kubectl
) -> None:
    resources = {"requests": {"cpu": "20m"}, "limits": {"cpu": "100m"}}
    consumer.create(m.pod("bounded", m.shell("main", SLEEP, resources=resources)))
    before = consumer.wait_for("pod", "bounded", lambda p: ready(p) and _observed(p))
    bound = {"limits": [{"type": "Container", "max": {"cpu": "150m"}}]}
    provider.create({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "bound"}, "spec": bound})
    patch = {"spec": {"containers": [{"name": "main", "resources": {"limits": {"cpu": "200m"}}}]}}

    def refused() -> bool:
        return any(e["reason"] == "ChangeRefused" and "150m" in e["message"] for e in consumer.list("events"))

    consumer.run("patch", "pod", "bounded", "--subresource=resize", "-p", json.dumps(patch))
    eventually(refused, what="the event about the refusal")
    # A change that goes through shows that later ones are not held up.
    consumer.run("label", "pod", "bounded", "later=yes")
    provider.wait_for("pod", "bounded", lambda p: p["metadata"]["labels"]["later"] == "yes")
    after = consumer.get("pod", "bounded")
    assert after["metadata"]["generation"] > before["metadata"]["generation"]
    assert after["status"]["observedGeneration"] == before["status"]["observedGeneration"]
    assert status_of(after)["resources"]["limits"]["cpu"] == "100m"


def _observed(pod: dict[str, Any]) -> bool:
    resizing = [c for c in pod["status"]["conditions"] if c["type"].startswith("PodResize")]
    return not resizing and pod["status"].get("observedGeneration") == pod["metadata"]["generation"]


def test_labels_and_annotations_follow_and_go(consumer: Kubectl, provider: Kubectl) -> None:
    consumer.create(m.pod("marked"))
    consumer.wait_for("pod", "marked", ready)
    consumer.run("label", "pod", "marked", "tier=web")
    consumer.run("annotate", "pod", "marked", "example.org/note=first")
    provider.wait_for("pod", "marked", lambda pod: _marks(pod) == ("web", "first"))
    consumer.run("label", "pod", "marked", "tier-")
    consumer.run("annotate", "--overwrite", "pod", "marked", "example.org/note=second")
    provider.wait_for("pod", "marked", lambda pod: _marks(pod) == (None, "second"))


def _marks(pod: dict[str, Any]) -> tuple[str | None, str | None]:
    metadata = pod["metadata"]
    return metadata["labels"].get("tier"), metadata["annotations"].get("example.org/note")
