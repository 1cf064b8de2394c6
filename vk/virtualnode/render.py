"""From a VirtualNode to the objects of its process. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from api.offloading.virtual_node import ClassPair, Taint, VirtualNode
from vk.virtualnode import kinds
from vk.virtualnode.settings import CONFIG_ANNOTATION, VirtualNodeSettings, labels, object_name

Json = dict[str, Any]

KUBELET_PORT = 10250
HEALTH_PORT = 10248
_FOLDER = "/etc/isthmus"
_KINDS_FILE = f"{_FOLDER}/options/kinds.yaml"
_RUN = "/run/isthmus"
_PROBE_SOCKET = f"unix:{_RUN}/fabric.sock"
"""Where `isthmus fabric-agent status` asks by itself."""
_USER = 65532


def options(node: VirtualNode, settings: VirtualNodeSettings, *, probed: bool = False) -> Json:
    """The options of `isthmus virtual-kubelet`, as its YAML file has them, without what only the pod knows.

    `probed`: there is a NetworkPeering with the provider, so the pod has a probe.
    """
    spec = node.spec
    made: Json = {
        **dict(settings.options),
        "node-name": node.node,
        "provider": spec.provider,
        "network-peering": spec.provider if settings.networked else "",
        "probe-socket": _PROBE_SOCKET if probed else "",
        "namespaces-from-objects": settings.declared,
        "reflect-kinds": _KINDS_FILE if settings.declared else "",
        "kinds-election-namespace": settings.election_namespace if settings.declared else "",
        "consumer-id": settings.consumer_id,
        "consumer-kubeconfig": f"{_FOLDER}/identity/kubeconfig",
        "provider-kubeconfig": f"{_FOLDER}/provider/kubeconfig",
        "capacity": _pairs({name: str(amount) for name, amount in spec.resources.items()}),
        "quota-namespace": sorted(spec.quota_namespaces),
        "provider-nodes": spec.provider_nodes.lower() if spec.provider_nodes != "Ignore" else "",
        "label": _pairs(spec.labels),
        "storage-class": _pairs(_classes(spec.classes.storage if spec.classes else ())),
        "taint": [taint_text(taint) for taint in spec.taints],
        "node-selector": _pairs(spec.node_selector),
        "api-access": spec.api_server,
        "mode": "managed" if spec.mode == "Managed" else "",
        "cluster-dns": list(spec.dns.servers) if spec.dns else [],
        "cluster-domain": spec.dns.domain if spec.dns else "",
        "pending-timeout": spec.pending_timeout or "",
    }
    return {name: value for name, value in made.items() if value not in ("", [], False)}


def _classes(given: Iterable[ClassPair]) -> dict[str, str]:
    return {pair.consumer: pair.provider for pair in given}


def taint_text(taint: Taint) -> str:
    """A taint as `kubectl taint` writes it."""
    return f"{taint.key}={taint.value}:{taint.effect}" if taint.value else f"{taint.key}:{taint.effect}"


def _pairs(values: dict[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in sorted(values.items())]


def objects(
    node: VirtualNode, settings: VirtualNodeSettings, *, siblings: Sequence[VirtualNode] = (), probed: bool = False
) -> list[Json]:
    """ConfigMap and Deployment, to be applied in this order.

    `siblings` are all VirtualNodes of its provider; `probed`: there is a NetworkPeering with that.
    """
    data = {"options.yaml": yaml.safe_dump(options(node, settings, probed=probed), sort_keys=True)}
    if settings.declared:
        data["kinds.yaml"] = yaml.safe_dump(kinds.document(settings.kinds, siblings or (node,)), sort_keys=True)
    digest = hashlib.sha256("\0".join(data.values()).encode()).hexdigest()[:16]
    name = object_name(node.metadata.name)
    metadata = {"name": name, "namespace": settings.namespace, "labels": labels(node.metadata.name)}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "replicas": 1,
                # Never two processes for one node. Pods run on meanwhile: the node's lease outlasts a restart.
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": labels(node.metadata.name)},
                "template": {
                    "metadata": {
                        "labels": labels(node.metadata.name),
                        "annotations": {CONFIG_ANNOTATION: digest},
                    },
                    "spec": _pod(node, settings, name, probed=probed),
                },
            },
        },
    ]


def _pod(node: VirtualNode, settings: VirtualNodeSettings, name: str, *, probed: bool) -> Json:
    secret = node.spec.kubeconfig_secret
    container = _container(settings)
    if probed:
        container["volumeMounts"].append(_RUN_MOUNT)
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "priorityClassName": "system-cluster-critical",
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container, *([_probe(node, settings)] if probed else [])],
        "volumes": [
            {"name": "options", "configMap": {"name": name}},
            {"name": "identity", "secret": {"secretName": name, "defaultMode": 0o440}},
            {
                "name": "provider",
                "secret": {
                    "secretName": secret.name,
                    "defaultMode": 0o440,
                    "items": [{"key": secret.key, "path": "kubeconfig"}],
                },
            },
            {"name": "state", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            *([{"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}] if probed else []),
        ],
    }


_CONFINED: Json = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
_RUN_MOUNT: Json = {"name": "run", "mountPath": _RUN}


def _probe(node: VirtualNode, settings: VirtualNodeSettings) -> Json:
    """Measures the way to the provider's pods from this pod, as any other pod here has it.

    It is no init container that restarts: the virtual kubelet would wait for that, and needs nobody.
    """
    return {
        "name": "probe",
        "image": settings.image,
        "imagePullPolicy": "IfNotPresent",
        "args": [
            "fabric-agent",
            "--role=probe",
            f"--name={node.node}",
            f"--listen={_PROBE_SOCKET}",
            f"--state-directory={_RUN}/probe",
        ],
        "resources": {"requests": {"cpu": "10m", "memory": "96Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": _CONFINED,
        "volumeMounts": [_RUN_MOUNT],
    }


def _container(settings: VirtualNodeSettings) -> Json:
    return {
        "name": "virtual-kubelet",
        "image": settings.image,
        "imagePullPolicy": "IfNotPresent",
        "args": [
            "virtual-kubelet",
            f"--config={_FOLDER}/options/options.yaml",
            "--node-address=$(POD_IP)",
            f"--listen=$(POD_IP):{KUBELET_PORT}",
            f"--health-listen=$(POD_IP):{HEALTH_PORT}",
        ],
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "ports": [
            {"name": "kubelet-api", "containerPort": KUBELET_PORT},
            {"name": "health", "containerPort": HEALTH_PORT},
        ],
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": "health"}, "timeoutSeconds": 5},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "health"}, "periodSeconds": 5},
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": _CONFINED,
        "volumeMounts": [
            {"name": "options", "mountPath": f"{_FOLDER}/options", "readOnly": True},
            {"name": "identity", "mountPath": f"{_FOLDER}/identity", "readOnly": True},
            {"name": "provider", "mountPath": f"{_FOLDER}/provider", "readOnly": True},
            {"name": "state", "mountPath": "/var/lib/isthmus"},
        ],
    }
