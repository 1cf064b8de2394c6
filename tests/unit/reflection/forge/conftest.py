"""Pods as an API server gives them, for tests of the forge."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from reflection.forge.model import ApiAccess, ForgeContext
from reflection.forge.names import NODE_LABEL

# Examples take milliseconds, but the machine may be busy with other things; nothing is kept between runs.
settings.register_profile("forge", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("forge")

UID = "0f0e0d0c-1111-2222-3333-444455556666"

TOKEN_VOLUME: dict[str, Any] = {
    "name": "kube-api-access-x7k2p",
    "projected": {
        "defaultMode": 420,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {
                "downwardAPI": {
                    "items": [
                        {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
                    ]
                }
            },
        ],
    },
}

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "web-0",
        "generateName": "web-",
        "namespace": "shop",
        "uid": UID,
        "resourceVersion": "812",
        "generation": 1,
        "labels": {"app": "web", NODE_LABEL: "spoofed"},
        "annotations": {"team": "a", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
        "finalizers": ["batch.kubernetes.io/job-tracking"],
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "u"}],
    },
    "spec": {
        "nodeName": "virtual-1",
        "schedulerName": "default-scheduler",
        "serviceAccountName": "shopkeeper",
        "serviceAccount": "shopkeeper",
        "restartPolicy": "Always",
        "priority": 0,
        "preemptionPolicy": "PreemptLowerPriority",
        "enableServiceLinks": True,
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "tolerations": [{"operator": "Exists"}],
        "containers": [
            {
                "name": "web",
                "image": "agnhost:1",
                "resources": {"requests": {"cpu": "100m"}},
                "volumeMounts": [
                    {"name": "data", "mountPath": "/data"},
                    {
                        "name": "kube-api-access-x7k2p",
                        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
                        "readOnly": True,
                    },
                ],
            }
        ],
        "volumes": [{"name": "data", "emptyDir": {}}, TOKEN_VOLUME],
    },
    "status": {
        "phase": "Pending",
        "qosClass": "Burstable",
        "conditions": [
            {
                "type": "PodScheduled",
                "status": "True",
                "lastProbeTime": None,
                "lastTransitionTime": "2026-11-22T10:00:00Z",
            }
        ],
    },
}

REMOTE_STATUS: dict[str, Any] = {
    "phase": "Running",
    "qosClass": "Burstable",
    "observedGeneration": 1,
    "hostIP": "10.0.0.7",
    "hostIPs": [{"ip": "10.0.0.7"}],
    "podIP": "10.244.1.9",
    "podIPs": [{"ip": "10.244.1.9"}],
    "startTime": "2026-11-22T10:00:01Z",
    "nominatedNodeName": "worker-3",
    "conditions": [
        {"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": "2026-11-22T10:00:03Z"}
        for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    ],
    "containerStatuses": [
        {
            "name": "web",
            "image": "docker.io/library/agnhost:1",
            "imageID": "sha256:aa",
            "containerID": "containerd://bb",
            "ready": True,
            "started": True,
            "restartCount": 0,
            "state": {"running": {"startedAt": "2026-11-22T10:00:02Z"}},
            "lastState": {},
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            "user": {"linux": {"uid": 0, "gid": 0, "supplementalGroups": [0]}},
        }
    ],
}


@pytest.fixture
def pod() -> dict[str, Any]:
    return copy.deepcopy(POD)


@pytest.fixture
def remote_status() -> dict[str, Any]:
    return copy.deepcopy(REMOTE_STATUS)


@pytest.fixture
def context() -> ForgeContext:
    return ForgeContext(
        node_name="virtual-1", consumer_id="c1", remote_namespace="shop-c1", node_ips=("198.18.0.9", "fd00::9")
    )


@pytest.fixture
def with_api() -> ForgeContext:
    return ForgeContext(
        node_name="virtual-1",
        consumer_id="c1",
        remote_namespace="shop-c1",
        node_ips=("198.18.0.9",),
        api_access=ApiAccess(host="203.0.113.5", port=6443),
    )
