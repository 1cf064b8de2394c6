"""What the kubelet API needs to know from whoever keeps the pods in step: small protocols, implemented elsewhere.

All calls are answered from memory, without I/O and without blocking: they run on the path of every request.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Protocol


@dataclasses.dataclass(frozen=True, slots=True)
class RemotePod:
    """The pod at the provider that carries out a pod of ours."""

    namespace: str
    name: str
    uid: str
    containers: frozenset[str]
    """Names of all its containers: init, sidecar, ordinary and ephemeral."""
    origin_uid: str
    """UID of the consumer's pod it was made for, as recorded on the remote object."""


@dataclasses.dataclass(frozen=True, slots=True)
class LocatedPod:
    """A pod of the consumer that is bound to this node, and its remote pod once there is one."""

    namespace: str
    name: str
    uid: str
    containers: frozenset[str]
    """Names of all containers in the consumer's spec: init, sidecar, ordinary and ephemeral."""
    remote: RemotePod | None
    """None as long as no remote pod of this very UID is known."""


@dataclasses.dataclass(frozen=True, slots=True)
class MeasuredPod:
    """A pod whose use of resources is reported: who it is here, where to ask for it there, since when it runs."""

    namespace: str
    name: str
    uid: str
    remote_namespace: str
    remote_name: str
    started_at: float | None
    """Unix seconds of the pod's start, None if it has not started."""
    containers: Mapping[str, float]
    """Containers that run now: name to unix seconds of their start."""


class PodNotFoundError(LookupError):
    """No pod of that name (and UID, if one was asked for) is bound to this node."""


class PodLocator(Protocol):
    """The pods of this virtual node."""

    def pods(self) -> Iterable[bytes]:
        """The consumer's pods bound to this node, each as the JSON of a v1.Pod."""
        ...

    def running_pods(self) -> Iterable[bytes]:
        """Those of `pods` that run at the provider and are not being deleted, each as the JSON of a v1.Pod."""
        ...

    def locate(self, namespace: str, name: str, *, uid: str | None = None) -> LocatedPod:
        """Find a pod of this node by its consumer name; with `uid`, only if it is that very pod.

        Raises PodNotFoundError otherwise. `remote` is set only if the remote pod's origin UID is the pod's UID.
        """
        ...


class StatsSource(Protocol):
    """Which pods are to be measured."""

    def measured_pods(self) -> Iterable[MeasuredPod]:
        """Pods with a remote pod that has started and not ended."""
        ...
