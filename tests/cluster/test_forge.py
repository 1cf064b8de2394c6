"""What the forge makes, given to real API servers: it is valid, stored as meant, and settles."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.lab.cluster import LabCluster
from deploy.lab.components import kwok
from deploy.lab.process import wait_until
from reflection.forge.changes import changes
from reflection.forge.model import ApiAccess, ForgeContext, Refused
from reflection.forge.pod import forge_pod
from reflection.forge.status import forge_status, lost_status, refused_status, status_patch
from tests.unit.reflection.forge.test_properties import STATUSES

Json = dict[str, Any]
NOW = "2026-11-22T12:00:00Z"
STRATEGIC = "application/strategic-merge-patch+json"
MINIMAL: Json = {"containers": [{"name": "web", "image": "none:1"}]}
RICH: Json = {
    "activeDeadlineSeconds": 3600,
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}]}
                ]
            }
        }
    },
    "nodeSelector": {"kubernetes.io/os": "linux", "type": "virtual-kubelet"},
    "hostAliases": [{"ip": "10.1.1.1", "hostnames": ["a.example.com"]}],
    "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
    "hostname": "h",
    "subdomain": "s",
    "readinessGates": [{"conditionType": "example.com/gate"}],
    "shareProcessNamespace": True,
    "tolerations": [{"operator": "Exists"}],
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "priorityClassName": "system-cluster-critical",
    "imagePullSecrets": [{"name": "pull"}],
    "securityContext": {"fsGroup": 7, "runAsNonRoot": False, "seccompProfile": {"type": "RuntimeDefault"}},
    "initContainers": [
        {"name": "init", "image": "none:1"},
        {"name": "side", "image": "none:1", "restartPolicy": "Always", "resources": {"requests": {"cpu": "10m"}}},
    ],
    "containers": [
        {
            "name": "web",
            "image": "none:1",
            "env": [
                {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                {"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
                {"name": "UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "CM", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k", "optional": True}}},
            ],
            "envFrom": [{"secretRef": {"name": "s", "optional": True}}],
            "ports": [{"containerPort": 80}],
            "lifecycle": {"preStop": {"exec": {"command": ["true"]}}},
            "readinessProbe": {"httpGet": {"port": 80}},
            "resources": {"requests": {"cpu": "50m", "memory": "16Mi"}, "limits": {"memory": "32Mi"}},
            "volumeMounts": [{"name": "all", "mountPath": "/all"}, {"name": "tmp", "mountPath": "/t", "subPath": "x"}],
        }
    ],
    "volumes": [
        {"name": "tmp", "emptyDir": {"sizeLimit": "1Mi"}},
        {
            "name": "all",
            "projected": {
                "sources": [
                    {"configMap": {"name": "kube-root-ca.crt", "optional": True}},
                    {"serviceAccountToken": {"path": "mine", "audience": "vault", "expirationSeconds": 600}},
                    {
                        "downwardAPI": {
                            "items": [
                                {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                                {"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}},
                            ]
                        }
                    },
                ]
            },
        },
    ],
}


@pytest.fixture
def context(namespace: str) -> ForgeContext:
    return ForgeContext(
        node_name="virtual.example.com",
        consumer_id="c1",
        remote_namespace=namespace,
        node_ips=("198.18.0.9", "fd00::9"),
    )


@pytest.fixture
def bound(consumer: LabCluster, namespace: str) -> Callable[..., Json]:
    """Make a pod at the consumer that is bound to a virtual node."""

    def make(name: str, spec: Json, **metadata: Any) -> Json:
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, **metadata},
            "spec": {**spec, "nodeName": "virtual.example.com"},
        }
        return consumer.api.request("POST", pods(namespace), body=body)

    return make


def pods(namespace: str, name: str = "", subresource: str = "") -> str:
    return "/".join(filter(None, (f"/api/v1/namespaces/{namespace}/pods", name, subresource)))


def patch_status(consumer: LabCluster, pod: Json, wanted: Json) -> Json:
    """Write a status, and see that it is stored so that nothing is left to write."""
    patch = status_patch(pod["status"], wanted)
    path = pods(pod["metadata"]["namespace"], pod["metadata"]["name"], "status")
    if patch is None:
        return pod
    stored = consumer.api.request("PATCH", path, body=patch, content_type=STRATEGIC)
    assert status_patch(stored["status"], wanted) is None
    return stored


@pytest.mark.parametrize("api_access", [None, ApiAccess(host="203.0.113.5", port=6443)], ids=["without", "with-api"])
def test_rich_pod_goes_over_and_its_status_comes_back(
    consumer: LabCluster,
    provider: LabCluster,
    context: ForgeContext,
    bound: Callable[..., Json],
    api_access: ApiAccess | None,
) -> None:
    context = replace(context, api_access=api_access)
    pod = bound("rich", RICH, labels={"app": "x", "app.kubernetes.io/managed-by": "Helm"})
    forged = forge_pod(pod, context=context)
    path = pods(context.remote_namespace)
    remote = provider.api.request("POST", path + "?fieldValidation=Strict", body=forged.body)
    assert not changes(pod, remote, context=context)

    def running() -> bool:
        found: str = provider.api.request("GET", f"{path}/rich")["status"]["phase"]
        return found == "Running"

    wait_until(running, what="the remote pod to run", timeout=30)
    remote = provider.api.request("GET", f"{path}/rich")
    pod = patch_status(consumer, pod, forge_status(pod, remote, context=context, now=NOW))
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["podIP"] == remote["status"]["podIP"]
    assert pod["status"]["hostIPs"] == [{"ip": "198.18.0.9"}, {"ip": "fd00::9"}]
    ready = next(one for one in pod["status"]["conditions"] if one["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ReadinessGatesNotReady")

    gate = {"status": {"conditions": [{"type": "example.com/gate", "status": "True"}]}}
    pod = consumer.api.request("PATCH", f"{path}/rich/status", body=gate, content_type=STRATEGIC)
    pod = patch_status(consumer, pod, forge_status(pod, remote, context=context, now=NOW))
    ready = next(one for one in pod["status"]["conditions"] if one["type"] == "Ready")
    assert (ready["status"], ready.get("reason")) == ("True", None)
    pod = patch_status(consumer, pod, lost_status(pod, reason="RemotePodLost", message="gone", now=NOW))
    assert pod["status"]["phase"] == "Failed"


def test_changes_are_taken_by_the_provider(
    consumer: LabCluster, provider: LabCluster, context: ForgeContext, bound: Callable[..., Json]
) -> None:
    pod = bound("changing", RICH, labels={"app": "x", "old": "1"})
    path = pods(context.remote_namespace, "changing")
    forged = forge_pod(pod, context=context)
    # Held back, for a fake node's running pods can't be resized.
    forged.body["metadata"]["annotations"][kwok.HOLD_ANNOTATION] = ""
    remote = provider.api.request("POST", pods(context.remote_namespace), body=forged.body)

    patch = {
        "metadata": {"labels": {"app": "y", "old": None}, "annotations": {"new": "1"}},
        "spec": {
            "activeDeadlineSeconds": 60,
            "containers": [{"name": "web", "image": "none:2"}],
            "initContainers": [{"name": "init", "image": "none:2"}],
        },
    }
    consumer.api.request("PATCH", path, body=patch, content_type=STRATEGIC)
    resources = {"requests": {"cpu": "70m"}, "limits": {"memory": "64Mi"}}
    resize = {"spec": {"containers": [{"name": "web", "resources": resources}]}}
    consumer.api.request("PATCH", f"{path}/resize", body=resize, content_type=STRATEGIC)
    debug = {"name": "debug", "image": "none:1", "targetContainerName": "web"}
    ephemeral = {"spec": {"ephemeralContainers": [debug]}}
    pod = consumer.api.request("PATCH", f"{path}/ephemeralcontainers", body=ephemeral, content_type=STRATEGIC)

    found = changes(pod, remote, context=context)
    assert found.notes == ()
    for subresource, body in (("/ephemeralcontainers", found.ephemeral), ("/resize", found.resize), ("", found.patch)):
        assert body is not None
        remote = provider.api.request("PATCH", path + subresource, body=body, content_type=STRATEGIC)
    assert not changes(pod, remote, context=context)
    assert remote["metadata"]["labels"]["app"] == "y"
    assert "old" not in remote["metadata"]["labels"]
    assert 'app="y"' in str(remote["metadata"]["annotations"])
    spec = remote["spec"]
    assert [one["image"] for one in spec["containers"] + spec["initContainers"]] == ["none:2", "none:2", "none:1"]
    assert spec["activeDeadlineSeconds"] == 60
    assert spec["containers"][0]["resources"]["requests"] == {"cpu": "70m", "memory": "16Mi"}
    assert [one["name"] for one in spec["ephemeralContainers"]] == ["debug"]


def test_refused_pod_is_told_so_at_the_consumer(
    consumer: LabCluster, context: ForgeContext, bound: Callable[..., Json]
) -> None:
    pod = bound("refused", {**MINIMAL, "volumes": [{"name": "v", "hostPath": {"path": "/"}}]})
    with pytest.raises(Refused) as caught:
        forge_pod(pod, context=context)
    pod = patch_status(consumer, pod, refused_status(pod, caught.value, now=NOW))
    assert pod["status"]["phase"] == "Pending"
    assert "spec.volumes[0] (v).hostPath" in pod["status"]["message"]


def test_a30_the_consumers_api_server_takes_whatever_status_is_forged(
    consumer: LabCluster, context: ForgeContext, bound: Callable[..., Json]
) -> None:
    """A report that made it refuse the patch would leave the pod without news for ever."""
    made = 0

    @settings(max_examples=60, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.lists(STATUSES, min_size=1, max_size=3), st.sampled_from(["Always", "Never"]))
    def check(reports: list[Any], policy: str) -> None:
        nonlocal made
        made += 1
        pod = bound(f"p{made}", {**copy.deepcopy(MINIMAL), "restartPolicy": policy})
        for report in reports:
            remote = {"metadata": {"generation": 1}, "spec": {}, "status": report}
            pod = patch_status(consumer, pod, forge_status(pod, remote, context=context, now=NOW))

    check()
    assert made >= 30
