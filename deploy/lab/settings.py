"""What a lab instance shall be, from the LAB_* environment variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from deploy.lab import paths
from deploy.lab.errors import LabError

DEFAULT_KUBERNETES = "1.34.4"
AUDIT_LEVELS = ("None", "Metadata", "Request", "RequestResponse")
# Interface names end at 15 bytes; cgroup, namespace and socket paths carry the name too.
_NAME = re.compile(r"[a-z][a-z0-9-]{0,19}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabSettings:
    """One instance's shape; equal settings give equal labs."""

    name: str = paths.DEFAULT_NAME
    """LAB_NAME: instances of different names stand side by side."""
    providers: int = 1
    """LAB_PROVIDERS: provider, provider-2, ..."""
    nodes: int = 1
    """LAB_NODES: real nodes per cluster, 0 (control plane only) or 1."""
    kwok: int = 0
    """LAB_KWOK: fake nodes added to every provider."""
    flat: bool = False
    """LAB_FLAT: pod networks are routed to each other, as by a third party's flat network."""
    alike: bool = False
    """LAB_ALIKE: all clusters have the same pod and service networks, as clusters that were made apart often do."""
    apps: bool = False
    """LAB_APPS: every cluster makes volumes on demand (class `local-path`) and serves Ingresses (class `skipper`)."""
    kubernetes: str = DEFAULT_KUBERNETES
    """LAB_KUBERNETES: version of every cluster's Kubernetes."""
    provider_kubernetes: str = ""
    """LAB_PROVIDER_KUBERNETES: version of the providers, if it shall differ."""
    audit: str = "Metadata"
    """LAB_AUDIT: audit level of writes, but for Secrets and tokens."""
    gc_percent: int = 100
    """LAB_GC_PERCENT: GOGC of the clusters' programs; more is more memory and less collecting."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise LabError(f"LAB_NAME {self.name!r}: lower case letters, digits and '-', at most 20")
        if self.nodes not in (0, 1):
            raise LabError("LAB_NODES is 0 or 1: a lab cluster has one real node; use LAB_KWOK for more")
        if not 0 <= self.providers <= 8:
            raise LabError("LAB_PROVIDERS is 0 to 8")
        if self.flat and self.alike:
            raise LabError("LAB_FLAT and LAB_ALIKE: networks that are the same cannot be routed to each other")
        if self.apps and not self.nodes:
            raise LabError("LAB_APPS needs LAB_NODES=1: it is real pods that use volumes and are reached")
        if self.audit not in AUDIT_LEVELS:
            raise LabError(f"LAB_AUDIT is one of {', '.join(AUDIT_LEVELS)}")

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> LabSettings:
        """Read LAB_*; absent or empty means the default. Raises LabError on nonsense."""
        default = cls()
        return cls(
            name=env.get("LAB_NAME") or default.name,
            providers=_number(env, "LAB_PROVIDERS", default.providers),
            nodes=_number(env, "LAB_NODES", default.nodes),
            kwok=_number(env, "LAB_KWOK", default.kwok),
            flat=_switch(env, "LAB_FLAT"),
            alike=_switch(env, "LAB_ALIKE"),
            apps=_switch(env, "LAB_APPS"),
            kubernetes=(env.get("LAB_KUBERNETES") or default.kubernetes).removeprefix("v"),
            provider_kubernetes=env.get("LAB_PROVIDER_KUBERNETES", "").removeprefix("v"),
            audit=env.get("LAB_AUDIT") or default.audit,
            gc_percent=_number(env, "LAB_GC_PERCENT", default.gc_percent),
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LabSettings:
        """The inverse of to_dict, without what a later version of the lab wrote: its labs may stand beside ours."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the instance's state file."""
        return asdict(self)

    @property
    def cluster_names(self) -> tuple[str, ...]:
        """consumer, provider, provider-2, ..."""
        return ("consumer", *("provider" if i == 1 else f"provider-{i}" for i in range(1, self.providers + 1)))

    def version_of(self, cluster: str) -> str:
        """The Kubernetes version of a cluster."""
        return self.kubernetes if cluster == "consumer" else self.provider_kubernetes or self.kubernetes


def _switch(env: Mapping[str, str], key: str) -> bool:
    return env.get(key, "") not in ("", "0", "false")


def _number(env: Mapping[str, str], key: str, default: int) -> int:
    text = env.get(key, "")
    if not text:
        return default
    if not text.isdigit():
        raise LabError(f"{key}={text!r} is not a number")
    return int(text)
