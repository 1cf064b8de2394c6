"""What the provider's administrator decides about consumers' pods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["privileged", "baseline", "restricted"]
"""Pod security level (https://kubernetes.io/docs/concepts/security/pod-security-standards)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a consumer's pod may ask for beyond what is harmless anywhere."""

    pod_security: Level = "baseline"
    """Level that the API server enforces in namespaces that we make."""
    namespaces: tuple[str, ...] = ()
    """Patterns, with * for any text, of what the consumer's namespaces may be called; empty: what is not reserved."""
    runtime_classes: frozenset[str] = frozenset()
    """RuntimeClasses of the provider that may be named."""
    priority_classes: frozenset[str] = frozenset()
    """PriorityClasses of the provider that may be named."""
    node_labels: frozenset[str] | None = None
    """Labels by which a pod may select the provider's nodes, besides its os and arch; None: any."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    """Labels of the nodes that the consumer is confined to: set on each pod, whatever it asks."""
    pod_resources: Mapping[str, str] = field(default_factory=dict)
    """The most that one pod may request, by resource, as `{"cpu": "4"}`; what is not named has no limit."""
    annotations: tuple[str, ...] = ("kubernetes.io/config.", "k8s.v1.cni.cncf.io/", "container.apparmor.security.beta.")
    """Beginnings of annotations that mean something to nodes or networks and that a consumer must not set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedSettings:
    """Settings of a managed provider, the same for all consumers."""

    roles: tuple[str, ...] = ("isthmus-managed-consumer", "isthmus-kinds-remote")
    """ClusterRoles that the consumer's user gets in namespaces that we make."""
    reserved_namespaces: tuple[str, ...] = ("default", "isthmus", "kube-*", "isthmus-*", "openshift-*")
    """Names, with * for any text, that no consumer's namespace may be called."""
