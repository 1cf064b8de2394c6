"""What isthmus consists of where its manager runs (`deploy/manager`), and what of it has to outlive its objects."""

from __future__ import annotations

from typing import Final

from kube.guard import Installation

MANAGER: Final = "isthmus-manager"
IN_USE: Final = "isthmus-in-use"
_LABELS: Final = {"app.kubernetes.io/managed-by": "isthmus"}


def consumer(namespace: str) -> Installation:
    """The manager with what VirtualNodes need of it to go."""
    return _needed(
        IN_USE,
        "VirtualNodes are left, and it has to take back what they have at their providers",
        "virtualnodes",
        namespace,
        *(f"{MANAGER}-scheduling", f"{MANAGER}-storage"),
        *("isthmus-kinds", "isthmus-kinds-nodes", "isthmus-namespace-offloadings", "isthmus-peers"),
    )


def peers(namespace: str) -> Installation:
    """The manager with what Identities and ResourceSlices need of it to go."""
    what = "Identities or ResourceSlices are left, and it has to give back what they got of their providers"
    return _needed(f"{IN_USE}-peers", what, "identities,resourceslices", namespace, "isthmus-peers")


def tenants(namespace: str) -> Installation:
    """The manager with what Tenants need of it to go."""
    return _needed(
        f"{IN_USE}-tenants",
        "Tenants are left, and it has to take what they have here",
        "tenants",
        namespace,
        *("isthmus-tenants", "isthmus-tenants-manager", "isthmus-managed-provider"),
    )


def network(namespace: str, *, manager: str) -> Installation:
    """The fabric's agents in their namespace, with what the manager, in its own, needs to tell them to let go."""
    name = f"{IN_USE}-network"
    return Installation(
        name=name,
        message=(
            "isthmus is in use: NetworkPeerings are left, or agents still have what they made for them. Delete "
            "NetworkPeerings first, or repeat this a little later (kubectl get networkpeerings). To go without that, "
            f"delete the ValidatingAdmissionPolicyBinding {name}"
        ),
        namespace=namespace,
        elsewhere=(manager, "default"),
        program="isthmus-gateway",
        daemons=("isthmus-fabric",),
        services=("isthmus-gateway",),
        roles=("isthmus-network",),
        labels=_LABELS,
        field_manager=MANAGER,
    )


def _needed(name: str, left: str, kinds: str, namespace: str, *roles: str) -> Installation:
    return Installation(
        name=name,
        message=(
            f"isthmus is in use: {left}. Delete them first, or repeat this when they are gone (kubectl get {kinds}). "
            f"To go without that, delete the ValidatingAdmissionPolicyBinding {name}"
        ),
        namespace=namespace,
        program=MANAGER,
        roles=(MANAGER, f"{MANAGER}-election", *roles),
        labels=_LABELS,
        field_manager=MANAGER,
    )
