"""What the node itself answers, asked through the consumer's API server as monitoring does."""

import json
from typing import Any

from deploy import stack
from tests import manifests as m
from tests.kubectl import Kubectl, eventually, ready


def asked(consumer: Kubectl, vnode: stack.VirtualNode, path: str) -> str:
    """The body of GET for a path of the kubelet API."""
    return consumer.run("get", "--raw", f"/api/v1/nodes/{vnode.name}/proxy/{path}")


def names(pods: str, namespace: str) -> list[str]:
    """Of a PodList, the names of one namespace's pods."""
    items: list[dict[str, Any]] = json.loads(pods)["items"]
    return [pod["metadata"]["name"] for pod in items if pod["metadata"]["namespace"] == namespace]


def test_the_node_tells_its_pods_and_what_they_use(consumer: Kubectl, vnode: stack.VirtualNode) -> None:
    consumer.create(m.pod("busy", m.shell("main", "while :; do :; done", resources={"limits": {"cpu": "50m"}})))
    consumer.create(m.pod("done", m.shell("main", "true"), restartPolicy="Never"))
    consumer.wait_for("pod", "busy", ready)
    consumer.wait_for("pod", "done", lambda pod: pod["status"]["phase"] == "Succeeded")
    assert sorted(names(asked(consumer, vnode, "pods"), consumer.namespace)) == ["busy", "done"]
    assert names(asked(consumer, vnode, "runningpods/"), consumer.namespace) == ["busy"]

    def used() -> bool:
        summary = json.loads(asked(consumer, vnode, "stats/summary"))
        mine = [pod for pod in summary["pods"] if pod["podRef"]["namespace"] == consumer.namespace]
        return any(pod["podRef"]["name"] == "busy" and pod["cpu"]["usageNanoCores"] > 0 for pod in mine)

    eventually(used, what="the pod's CPU in stats/summary", timeout=120)
    label = f'namespace="{consumer.namespace}"'
    lines = asked(consumer, vnode, "metrics/resource").splitlines()
    assert [line for line in lines if line.startswith("pod_cpu_usage_seconds_total{") and label in line]


def test_the_node_tells_of_itself(consumer: Kubectl, vnode: stack.VirtualNode) -> None:
    assert asked(consumer, vnode, "healthz") == "ok"
    assert json.loads(asked(consumer, vnode, "configz"))["kubeletconfig"]
    assert "isthmus_watch_last_contact_age_seconds" in asked(consumer, vnode, "metrics")


def test_a_command_runs_by_the_run_endpoint(consumer: Kubectl, vnode: stack.VirtualNode) -> None:
    consumer.create(m.pod("web"))
    consumer.wait_for("pod", "web", ready)
    path = f"/api/v1/nodes/{vnode.name}/proxy/run/{consumer.namespace}/web/main?cmd=echo%20here"
    assert consumer.run("create", "--raw", path, "-f", "-", stdin="") == "here\n"
