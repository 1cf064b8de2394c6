"""Answers what the kubelet API asks about pods, from reflection's caches and without I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from kube.objects import Object
from kube.store import Key
from reflection import ownership
from reflection.decode import decode_pod, terminal
from reflection.offloading import Offloading
from vk.server.interfaces import LocatedPod, MeasuredPod, PodNotFoundError, RemotePod

_STATUS_LISTS = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")


class _Spec(msgspec.Struct):
    """The part of a pod spec that names containers."""

    containers: list[_Named] = []
    init_containers: list[_Named] = msgspec.field(name="initContainers", default_factory=list)
    ephemeral_containers: list[_Named] = msgspec.field(name="ephemeralContainers", default_factory=list)


class _Named(msgspec.Struct):
    name: str


def container_names(pod: Object) -> frozenset[str]:
    """Names of all containers of a pod, of whatever kind."""
    spec = msgspec.json.decode(pod.spec, type=_Spec)
    return frozenset(c.name for c in (*spec.containers, *spec.init_containers, *spec.ephemeral_containers))


class Locator:
    """`PodLocator` and `StatsSource` of the kubelet API."""

    def __init__(self, offloading: Offloading) -> None:
        self._offloading = offloading

    def pods(self) -> Iterator[bytes]:
        """See `vk.server.interfaces.PodLocator`."""
        return (_json(pod) for pod in self._offloading.pods.store.values())

    def running_pods(self) -> Iterator[bytes]:
        """See `vk.server.interfaces.PodLocator`."""
        for pod, _remote in self._pairs():
            if not pod.metadata.deletion_timestamp and not terminal(decode_pod(pod)):
                yield _json(pod)

    def locate(self, namespace: str, name: str, *, uid: str | None = None) -> LocatedPod:
        """See `vk.server.interfaces.PodLocator`."""
        pod = self._offloading.pods.store.get((namespace, name))
        if pod is None or (uid is not None and pod.metadata.uid != uid):
            raise PodNotFoundError(f"{namespace}/{name}")
        remote = self._offloading.remote((namespace, name))
        return LocatedPod(
            namespace=namespace,
            name=name,
            uid=pod.metadata.uid,
            containers=container_names(pod),
            remote=_remote_pod(pod, remote) if remote is not None else None,
        )

    def measured_pods(self) -> Iterator[MeasuredPod]:
        """See `vk.server.interfaces.StatsSource`."""
        for pod, remote in self._pairs():
            measured = _measured(pod, remote)
            if measured is not None:
                yield measured

    def _pairs(self) -> Iterable[tuple[Object, Object]]:
        for pod in self._offloading.pods.store.values():
            key: Key = (pod.metadata.namespace, pod.metadata.name)
            remote = self._offloading.remote(key)
            if remote is not None and ownership.origin_uid(remote.metadata) == pod.metadata.uid:
                yield pod, remote


def _remote_pod(pod: Object, remote: Object) -> RemotePod | None:
    origin_uid = ownership.origin_uid(remote.metadata)
    if origin_uid != pod.metadata.uid:
        return None
    meta = remote.metadata
    return RemotePod(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        containers=container_names(remote),
        origin_uid=origin_uid,
    )


def _measured(pod: Object, remote: Object) -> MeasuredPod | None:
    status = decode_pod(pod)["status"]
    started = _seconds(status.get("startTime"))
    running = dict(_running(status))
    if not running:
        return None
    return MeasuredPod(
        namespace=pod.metadata.namespace,
        name=pod.metadata.name,
        uid=pod.metadata.uid,
        remote_namespace=remote.metadata.namespace,
        remote_name=remote.metadata.name,
        started_at=started,
        containers=running,
    )


def _running(status: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for field in _STATUS_LISTS:
        for container in status.get(field) or ():
            since = _seconds(((container.get("state") or {}).get("running") or {}).get("startedAt"))
            if since is not None:
                yield container["name"], since


def _seconds(text: str | None) -> float | None:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else None


def _json(pod: Object) -> bytes:
    return msgspec.json.encode(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": pod.metadata,
            "spec": pod.spec or msgspec.Raw(b"{}"),
            "status": pod.status or msgspec.Raw(b"{}"),
        }
    )
