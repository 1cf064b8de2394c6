"""The objects that a Tenant comes to at the provider: its namespace, rights, limits and flow. Pure."""

from __future__ import annotations

from typing import Any, Final

from api.authentication.tenant import Tenant
from identity import names
from identity.provider import manifest
from identity.provider.settings import ProviderSettings

Json = dict[str, Any]

PRIORITY_LEVEL: Final = "isthmus-tenants"
"""PriorityLevelConfiguration of all tenants (`deploy/policies/tenants.yaml`)."""
_RBAC: Final = "rbac.authorization.k8s.io"
_FLOW: Final = "flowcontrol.apiserver.k8s.io"


def namespace(tenant: Tenant) -> Json:
    """Where the tenant's own objects are kept. No pod ever runs there."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": names.tenant_namespace(tenant.consumer_id),
            "labels": {**names.labels(tenant.consumer_id), "pod-security.kubernetes.io/enforce": "restricted"},
            "annotations": {names.UID_ANNOTATION: tenant.metadata.uid},
        },
    }


def binding(tenant: Tenant, role: str, user: str) -> Json:
    """A ClusterRole in the tenant's namespace."""
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {
            "name": role,
            "namespace": names.tenant_namespace(tenant.consumer_id),
            "labels": names.labels(tenant.consumer_id),
        },
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [names.subject(user)],
    }


def manager_binding(tenant: Tenant, settings: ProviderSettings) -> Json:
    """Our own rights in the tenant's namespace. It stays when the tenant's rights are taken (`Removal`)."""
    made = binding(tenant, names.MANAGER_ROLE, settings.manager)
    made["metadata"]["labels"] = {names.TENANT_LABEL: tenant.consumer_id}
    return made


def bindings(tenant: Tenant, settings: ProviderSettings, *, user: str, join: str) -> list[Json]:
    """All rights in the tenant's namespace."""
    return [
        *(binding(tenant, role, join) for role in settings.join_roles),
        *(binding(tenant, role, user) for role in settings.tenant_roles),
    ]


def invited_binding(tenant: Tenant, user: str) -> Json:
    """What whoever holds an invitation may do in the tenant's namespace: ask, and read the answer."""
    made = binding(tenant, names.JOIN_ROLE, user)
    made["metadata"]["name"] = names.INVITED_BINDING
    return made


def info(tenant: Tenant, settings: ProviderSettings, *, user: str) -> Json:
    """What the tenant is told of itself: with what it joins next time as well, which is of use to its key only."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": names.INFO,
            "namespace": names.tenant_namespace(tenant.consumer_id),
            "labels": names.labels(tenant.consumer_id),
        },
        "data": {
            "user": user,
            "state": tenant.spec.state,
            "credential": tenant.spec.credential,
            "providerID": settings.cluster_id,
            **manifest.credential(tenant.status.identity),
        },
    }


def service_account(tenant: Tenant, name: str) -> Json:
    """Who a consumer is where no certificates can be had. Nothing mounts its tokens."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {
            "name": name,
            "namespace": names.tenant_namespace(tenant.consumer_id),
            "labels": names.labels(tenant.consumer_id),
        },
        "automountServiceAccountToken": False,
    }


def flow_name(consumer_id: str) -> str:
    """The tenant's FlowSchema."""
    return f"isthmus-tenant-{consumer_id}"


def flow_schema(tenant: Tenant, *, user: str, join: str) -> Json:
    """The tenant's requests as a flow of their own in the tenants' priority level, or in one that the Tenant names.

    They wait for one another, and nobody else's wait for them (abuse test A29).
    """
    return {
        "apiVersion": f"{_FLOW}/v1",
        "kind": "FlowSchema",
        "metadata": {"name": flow_name(tenant.consumer_id), "labels": names.labels(tenant.consumer_id)},
        "spec": {
            "priorityLevelConfiguration": {"name": tenant.spec.priority_level or PRIORITY_LEVEL},
            "matchingPrecedence": 800,  # before the flow schema of service accounts, which is at 9000
            "rules": [
                {
                    "subjects": [_flow_subject(user), _flow_subject(join)],
                    "resourceRules": [
                        {
                            "apiGroups": ["*"],
                            "resources": ["*"],
                            "verbs": ["*"],
                            "namespaces": ["*"],
                            "clusterScope": True,
                        }
                    ],
                    "nonResourceRules": [{"nonResourceURLs": ["*"], "verbs": ["*"]}],
                }
            ],
        },
    }


def flow_shown(flow: Json) -> object:
    """What tells two states of a flow apart."""
    spec = flow["spec"]
    return spec["priorityLevelConfiguration"], spec["rules"][0]["subjects"]


def _flow_subject(user: str) -> Json:
    found = names.subject(user)
    if found["kind"] == "ServiceAccount":
        reference = {"name": found["name"], "namespace": found["namespace"]}
        return {"kind": "ServiceAccount", "serviceAccount": reference}
    return {"kind": "User", "user": {"name": user}}
