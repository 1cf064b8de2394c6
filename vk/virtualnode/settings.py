"""What the manager knows besides the objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FIELD_MANAGER = "isthmus-virtualnode"
FINALIZER = "offloading.isthmus.dev/drain"
COMPONENT_LABEL = "app.kubernetes.io/component"
COMPONENT = "virtual-kubelet"
INSTANCE_LABEL = "app.kubernetes.io/instance"
CONFIG_ANNOTATION = "offloading.isthmus.dev/config"
"""Digest of what the process was started with: another one is a new pod."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualNodeSettings:
    """Where virtual kubelets run, from which image, and how they reach their own cluster."""

    namespace: str = "isthmus"
    """Namespace of the virtual kubelets, their Secrets, and the kubeconfigs of providers."""
    image: str
    consumer_id: str
    """Short name of this cluster, unique among a provider's consumers."""
    server: str
    """URL of this cluster's API server as pods reach it."""
    ca: bytes = field(repr=False)
    """CA of that server, PEM."""
    networked: bool = False
    """Whether a provider's addresses are translated by the NetworkPeering of its name, and the network to it is probed
    if there is one."""
    declared: bool = False
    """Whether NamespaceOffloadings say which namespaces go where; else pods of every namespace do."""
    election_namespace: str = ""
    """The provider's namespace with the Lease by which one virtual kubelet of several does what is namespace-wide."""
    kinds: Mapping[str, Any] = field(default_factory=dict)
    """What is reflected of whole namespaces everywhere, as the file of `--reflect-kinds` has it; the VirtualNodes add
    their classes and rules."""
    options: tuple[tuple[str, object], ...] = ()
    """Options of `isthmus virtual-kubelet` that every virtual kubelet gets."""


def object_name(virtual_node: str) -> str:
    """Name of the Deployment, ConfigMap and Secret of a VirtualNode."""
    return f"vk-{virtual_node}"


def labels(virtual_node: str) -> dict[str, str]:
    """Labels of all that is made for a VirtualNode in our namespace."""
    return {
        "app.kubernetes.io/name": "isthmus",
        "app.kubernetes.io/managed-by": "isthmus",
        COMPONENT_LABEL: COMPONENT,
        INSTANCE_LABEL: virtual_node,
    }
