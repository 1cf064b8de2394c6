"""What the provider's manager knows besides the objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from api import installed
from identity import requests
from kube.quantities import Quantity

_ONCE = Quantity.of(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """How consumers reach this cluster, and how long what they are given is good."""

    server: str
    """URL of the API server as consumers reach it."""
    ca: str = field(repr=False)
    """Its certificate authorities, PEM."""
    cluster_id: str
    """UID of the namespace kube-system."""
    request_lifetime: timedelta = requests.LIFETIME
    join_lifetime: timedelta = timedelta(days=30)
    """Of the credential in the manifest that the consumer applies: its only right is to ask for another."""
    credential_lifetime: timedelta = timedelta(hours=24)
    """Of the credentials that do the work."""
    namespace: str = "isthmus"
    """Where we run."""
    join_roles: tuple[str, ...] = ("isthmus-tenant-join",)
    """ClusterRoles in the tenant's namespace for who shows the key."""
    tenant_roles: tuple[str, ...] = ("isthmus-tenant", "isthmus-managed-tenant")
    """ClusterRoles in the tenant's namespace for the consumer itself."""
    request_limit: int = 8
    """CredentialRequests that are kept for a tenant; older ones are removed."""
    slice_limit: int = 32
    """ResourceSlices that a tenant may have."""
    slice_overcommit: Quantity = _ONCE
    """How often cpu, memory and ephemeral storage of the nodes may be promised to slices."""

    @property
    def manager(self) -> str:
        """Who we are here: we get our rights in the namespace of a tenant when it is made."""
        return f"system:serviceaccount:{self.namespace}:{installed.MANAGER}"
