"""The MutatingWebhookConfiguration: which pods API servers show us, and what happens when they can't. Pure.

`failurePolicy: Ignore`: while nobody answers, pods are created as they are, so stay local; the controller reports them.
All that can be decided without asking us is decided by the API server (selectors and matchConditions), so that a pod
of a namespace that is not offloaded costs nothing, whatever state we are in.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any, Final

from kube.resources import Resource
from reflection.forge.names import MANAGED_BY, MANAGED_BY_LABEL, MIRROR_ANNOTATION
from reflection.scheduling import names

WEBHOOK_CONFIGURATIONS: Final = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "mutatingwebhookconfigurations",
    "MutatingWebhookConfiguration",
    namespaced=False,
)
PATH: Final = "/prepare-pods"
FIELD_MANAGER: Final = "isthmus-webhook"
TIMEOUT_SECONDS: Final = 3
RESERVED: Final = ("kube-system", "kube-public", "kube-node-lease")
"""Namespaces that are never offloaded: the cluster itself lives there."""

_WEBHOOK_NAME: Final = "pods.offloading.isthmus.dev"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where API servers reach the webhook: a Service, or (outside of clusters) an address and port."""

    service: str = ""
    namespace: str = ""
    port: int = 443
    address: str = ""
    """IP address or DNS name; given, `service` is not used."""
    path: str = field(default=PATH, init=False)

    @property
    def names(self) -> tuple[str, ...]:
        """What the serving certificate has to be good for."""
        if self.address:
            return (self.address,)
        base = f"{self.service}.{self.namespace}"
        return (f"{base}.svc", f"{base}.svc.cluster.local", base)

    def client_config(self, bundle: bytes) -> dict[str, Any]:
        """As admissionregistration.k8s.io/v1 has it."""
        trusted = {"caBundle": base64.b64encode(bundle).decode()}
        if self.address:
            host = f"[{self.address}]" if ":" in self.address else self.address
            return {"url": f"https://{host}:{self.port}{self.path}", **trusted}
        service = {"name": self.service, "namespace": self.namespace, "path": self.path, "port": self.port}
        return {"service": service, **trusted}


def configuration(name: str, *, endpoint: Endpoint, bundle: bytes, own_namespace: str) -> dict[str, Any]:
    """The whole object, for server-side apply."""
    return {
        "apiVersion": WEBHOOK_CONFIGURATIONS.api_version,
        "kind": WEBHOOK_CONFIGURATIONS.kind,
        "metadata": {"name": name, "labels": {MANAGED_BY_LABEL: MANAGED_BY}},
        "webhooks": [
            {
                "name": _WEBHOOK_NAME,
                "clientConfig": endpoint.client_config(bundle),
                "rules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["pods"],
                        "scope": "Namespaced",
                    }
                ],
                "namespaceSelector": _namespaces(own_namespace),
                "objectSelector": {
                    "matchExpressions": [{"key": names.OPT_OUT, "operator": "NotIn", "values": ["true"]}]
                },
                "matchConditions": _conditions(),
                "matchPolicy": "Equivalent",
                "failurePolicy": "Ignore",
                "sideEffects": "None",
                "timeoutSeconds": TIMEOUT_SECONDS,
                "reinvocationPolicy": "IfNeeded",
                "admissionReviewVersions": ["v1"],
            }
        ],
    }


def _namespaces(own_namespace: str) -> dict[str, Any]:
    reserved = sorted({*RESERVED, own_namespace})
    return {
        "matchLabels": {names.SCHEDULING_LABEL: names.SCHEDULING_ENABLED},
        "matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": reserved}],
    }


def _conditions() -> list[dict[str, str]]:
    """The rules of `strategy.exemption` in CEL. An expression that fails counts as `failurePolicy` says."""
    annotations = "object.metadata.?annotations.orValue({})"
    owners = "object.metadata.?ownerReferences.orValue([])"
    daemon = "owner.kind == 'DaemonSet' && owner.?controller.orValue(false)"
    return [
        {"name": "names-no-node", "expression": "object.spec.?nodeName.orValue('') == ''"},
        {"name": "no-mirror", "expression": f"!('{MIRROR_ANNOTATION}' in {annotations})"},
        {"name": "no-daemon", "expression": f"!{owners}.exists(owner, {daemon})"},
        {"name": "not-opted-out", "expression": f"{annotations}[?'{names.OPT_OUT}'].orValue('') != 'true'"},
    ]
