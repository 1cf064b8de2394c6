"""Options of `isthmus manager`. Those of a module say so in their description; a module checks its own."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from isthmus.options import LogOptions


class ManagerOptions(LogOptions, kw_only=True, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """What the user may set. Lists are repeated flags; each description is the flag's help."""

    module: Annotated[
        list[str],
        Meta(
            description="what the manager does: `consumer` (virtual nodes and offloaded namespaces), `provider` "
            "(managed mode: consumers' pods here), `tenants` (Tenants and their credentials here), `peers` (our "
            "Identities at providers), `network` (NetworkPeerings); none: consumer"
        ),
    ] = []  # noqa: RUF012 - msgspec makes a new one each time
    kubeconfig: Annotated[str, Meta(description="kubeconfig of this cluster; empty: the pod's own service account")] = (
        ""
    )
    namespace: Annotated[str, Meta(description="namespace of isthmus' own objects")] = "isthmus"
    health_listen: Annotated[str, Meta(description="address:port of /healthz, /readyz and /metrics; empty: none")] = (
        "127.0.0.1:10258"
    )
    lease_seconds: Annotated[
        float,
        Meta(description="seconds for which a leader that does not answer keeps the others waiting", ge=5),
    ] = 15.0
    identity: Annotated[str, Meta(description="name of this replica; empty: the host's, which is the pod's")] = ""
    # -- network
    fabric_agent_port: Annotated[
        int, Meta(description="TCP port of the fabric's agents on their pods (module network)", ge=1, le=65535)
    ] = 6093
    # -- tenants
    advertise_server: Annotated[
        str,
        Meta(
            description="URL of this cluster's API server as consumers reach it; empty: the manager's, unless in a pod"
        ),
    ] = ""
    advertise_ca_file: Annotated[
        str, Meta(description="certificate authorities, PEM, of that URL; empty: those that the manager trusts")
    ] = ""
    slice_overcommit: Annotated[
        float,
        Meta(
            description="how often the nodes' cpu, memory and ephemeral storage may be promised to slices of the class "
            "`default`",
            ge=0.01,
            le=100,
        ),
    ] = 1.0
    # -- consumer, peers
    image: Annotated[
        str, Meta(description="image of isthmus that virtual kubelets run (module consumer, which needs it)")
    ] = ""
    consumer_id: Annotated[
        str, Meta(description="short name of this cluster, unique among its providers' consumers")
    ] = "consumer"
    api_server: Annotated[
        str, Meta(description="URL of this cluster's API server as pods reach it; empty: as the manager does")
    ] = ""
    webhook_listen: Annotated[
        str, Meta(description="address:port of the webhook that prepares pods of offloaded namespaces; empty: none")
    ] = "0.0.0.0:9443"
    webhook_service: Annotated[
        str, Meta(description="Service in the manager's namespace by which API servers reach the webhook")
    ] = "isthmus-webhook"
    reflect_kinds: Annotated[
        str,
        Meta(
            description="file that says what virtual kubelets reflect of whole namespaces, besides what VirtualNodes "
            "say of classes and rules; empty: every kind there is"
        ),
    ] = ""
