"""What the provider's administrator decides about consumers' pods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["privileged", "baseline", "restricted"]
"""Pod security level (https://kubernetes.io/docs/concepts/security/pod-security-standards)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a consumer's pod may ask for beyond what is harmless anywhere."""

    runtime_classes: frozenset[str] = frozenset()
    """RuntimeClasses of the provider that may be named."""
    priority_classes: frozenset[str] = frozenset()
    """PriorityClasses of the provider that may be named."""
    annotations: tuple[str, ...] = ("kubernetes.io/config.", "k8s.v1.cni.cncf.io/", "container.apparmor.security.beta.")
    """Beginnings of annotations that mean something to nodes or networks and that a consumer must not set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedSettings:
    """Settings of a managed provider."""

    pod_security: Level = "baseline"
    """Level that the API server enforces in namespaces that we make."""
    roles: tuple[str, ...] = ("isthmus-managed-consumer", "isthmus-kinds-remote")
    """ClusterRoles that the consumer's user gets in namespaces that we make."""
    reserved_namespaces: tuple[str, ...] = ("default", "isthmus", "kube-*", "isthmus-*", "openshift-*")
    """Names, with * for any text, that no consumer's namespace may be called."""
    limits: Limits = Limits()
