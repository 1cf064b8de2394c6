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
