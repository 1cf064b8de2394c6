"""Names by which the two sides know users, namespaces and objects. Pure.

A consumer's user name holds what must not outlive the Tenant that it was made for: `incarnation`. RBAC is bound to that
name, so a certificate of an earlier Tenant, or of the time before a drain, gives no right at all.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from api.authentication.common import GROUP

USER_PREFIX: Final = "isthmus:"
NAMESPACE_PREFIX: Final = "isthmus-"
TENANT_LABEL: Final = f"{GROUP}/tenant"
"""Label of all that the provider's manager made for a Tenant: the consumer's id."""
CONSUMER_LABEL: Final = "offloading.isthmus.dev/consumer"
"""Label of the namespaces that were made for a consumer's pods: its id (`reflection.forge.names`)."""
UID_ANNOTATION: Final = f"{GROUP}/tenant-uid"
"""Which Tenant a namespace was made for, for another one may have had the same name."""
FINALIZER: Final = f"{GROUP}/tenant"
IDENTITY_FINALIZER: Final = f"{GROUP}/identity"
SLICE_FINALIZER: Final = f"{GROUP}/slice"
SLICE_LABEL: Final = f"{GROUP}/slice"
"""On a VirtualNode that was made of a ResourceSlice: its UID."""
FORCE_ANNOTATION: Final = f"{GROUP}/force-removal"
"""`true` on a Tenant or Identity that goes: do not wait for the other side, nor for volumes."""
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "isthmus"
FIELD_MANAGER: Final = "isthmus-identity"
INFO: Final = "isthmus-tenant"
"""ConfigMap in the tenant's namespace that tells the consumer who it is and how things stand."""
JOIN_ROLE: Final = "isthmus-tenant-join"
TENANT_ROLE: Final = "isthmus-tenant"
INVITED_BINDING: Final = "isthmus-tenant-invited"
"""The binding of `JOIN_ROLE` to an invitation's service account."""
MAPS_ROLE: Final = "isthmus-managed-tenant"
MANAGER_ROLE: Final = "isthmus-tenants-manager"
_RBAC: Final = "rbac.authorization.k8s.io"


def tenant_namespace(consumer_id: str) -> str:
    """Where the consumer's own objects are kept at the provider."""
    return NAMESPACE_PREFIX + consumer_id


def incarnation(uid: str, epoch: int) -> str:
    """What tells this life of a Tenant from all others: of its UID and how often it was drained."""
    return hashlib.sha256(f"{uid}/{epoch}".encode()).hexdigest()[:16]


def user(consumer_id: str, life: str) -> str:
    """The consumer's user name in one life of its Tenant."""
    return f"{USER_PREFIX}{consumer_id}:{life}"


def join_user(consumer_id: str, key: str) -> str:
    """The user name that a consumer can know before it has a Tenant: it says which key it has (`keys.digest`).

    Its only right is to ask for a credential as `user`, with a signature by that key.
    """
    return f"{USER_PREFIX}{consumer_id}:key:{key[:16]}"


def account(life: str) -> str:
    """The service account that stands for `user` where certificates cannot be had."""
    return f"tenant-{life}"


def join_account(key: str) -> str:
    """The service account that stands for `join_user`."""
    return f"key-{key[:16]}"


def invited_account(life: str) -> str:
    """The service account of an open invitation."""
    return f"invited-{life}"


def account_user(namespace: str, name: str) -> str:
    """Who a service account is to an API server."""
    return f"system:serviceaccount:{namespace}:{name}"


def subject(user_name: str) -> dict[str, Any]:
    """A user or service account as the subject of a binding."""
    parts = user_name.split(":")
    if user_name.startswith("system:serviceaccount:") and len(parts) == 4:
        return {"kind": "ServiceAccount", "name": parts[3], "namespace": parts[2]}
    return {"apiGroup": _RBAC, "kind": "User", "name": user_name}


def labels(consumer_id: str) -> dict[str, str]:
    """Labels of what is made for a Tenant."""
    return {TENANT_LABEL: consumer_id, MANAGED_BY_LABEL: MANAGED_BY}


def key_secret(identity: str) -> str:
    """The Secret with our keys for a provider; nothing else reads it."""
    return f"identity-{identity}"


def invitation_secret(identity: str) -> str:
    """The Secret with the token of an invitation."""
    return f"invitation-{identity}"


def kubeconfig_secret(identity: str) -> str:
    """The Secret with the kubeconfig for a provider, which virtual kubelets mount."""
    return f"provider-{identity}"
