"""What the user decided about reflection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kube.objects import Metadata
from kube.resources import PODS, Resource
from reflection.mapping import NamespaceMapping

REMOTE_ROLE = "isthmus-virtual-kubelet-remote"
KINDS_ROLE = "isthmus-kinds-remote"


def _same(address: str) -> str | None:
    return address


@dataclass(frozen=True, slots=True)
class ReflectionSettings:
    """Settings of one virtual node's reflection."""

    node_name: str
    """The virtual node's name."""
    node_ips: tuple[str, ...]
    """Its InternalIP addresses: pods show them as hostIP."""
    consumer_id: str
    """Short name of the consumer cluster, unique among the provider's consumers."""
    mapping: NamespaceMapping
    """Consumer namespace to provider namespace."""
    managed: bool = False
    """The provider runs isthmus: it is asked by ShadowPods and NamespaceMaps."""
    roles: Mapping[str, Resource] = field(default_factory=lambda: {REMOTE_ROLE: PODS})
    """ClusterRoles that are bound in namespaces that we make, each with a resource that only it lets us list."""
    runtime_classes: Mapping[str, str] = field(default_factory=dict)
    """RuntimeClass at the consumer -> at the provider; empty: the provider's default."""
    api_server: tuple[str, int] | None = None
    """Host and port of the consumer's API server as the provider's pods reach it; None: pods get no token."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    """Labels of the provider's nodes that the virtual node stands for."""
    namespace_linger: float = 60.0
    """Seconds that an unused namespace of ours stays at the provider."""
    reference_linger: float = 30.0
    """Seconds that a copy of a ConfigMap or Secret stays after its last pod: the next pod often needs it again."""
    resync: float = 600.0
    """Seconds after which pods and copies are listed anew, to make good what a watch failed to tell (fault F9)."""
    storage_classes: Mapping[str, str] = field(default_factory=dict)
    """StorageClass at the consumer -> at the provider; empty: the provider's default for all."""
    pending_timeout: float | None = None
    """Seconds that a pod may wait for a place at the provider before it is evicted; None: for ever."""
    gives_tokens: Callable[[str], bool] = lambda _namespace: True
    """Whether pods of a consumer namespace get service account tokens, where there is a way to the API server."""
    dns_servers: tuple[str, ...] = ()
    """Addresses at the provider of `isthmus dns`; none: pods use the provider's DNS as it is."""
    cluster_domain: str = "cluster.local"
    """The consumer's."""
    translate: Callable[[str], str | None] = _same
    """Address of a provider's pod as the consumer reaches it; None: it can't."""
    may_leave: Callable[[str, Metadata], bool] = lambda _resource, _metadata: True
    """Whether a ConfigMap or Secret (`configmaps`, `secrets`) may go to the provider because a pod names it."""
    forbidden_ips: frozenset[str] = field(default_factory=frozenset)
    """Addresses that a provider must not claim for its pods (API servers, DNS)."""
