"""What the pods of this node use, from the provider's metrics.k8s.io, made into the cumulative counters a kubelet has.

The provider's metrics API gives a rate (CPU over a window), metrics-server wants a counter that only grows. So usage is
integrated over the time between polls: the rate that metrics-server computes from two of our samples is then the rate
the provider measured. Least privilege: only `list pods.metrics.k8s.io` in the mapped namespaces. The provider is asked
only while somebody asks us, and at most once per `max_age`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

import msgspec
import structlog

from kube.errors import KubeError
from kube.quantities import Quantity, QuantityError
from kube.resources import POD_METRICS, Resource
from vk.server.interfaces import MeasuredPod, StatsSource
from vk.server.self_usage import SelfUsage

log = structlog.get_logger(__name__)

FLOOR: Final = 0.001
"""CPU seconds a counter starts with at least: metrics-server drops the whole pod of a container that stands at zero."""
FAILURE_AGE: Final = 3.0
"""Seconds for which a failed poll is not repeated."""


class ContainerMetrics(msgspec.Struct):
    """A container of a metrics.k8s.io PodMetrics."""

    name: str
    usage: dict[str, str] = {}


class MetricsMetadata(msgspec.Struct):
    """Name and namespace of a PodMetrics."""

    name: str = ""
    namespace: str = ""


class PodMetrics(msgspec.Struct):
    """The part of a metrics.k8s.io PodMetrics that is used."""

    metadata: MetricsMetadata
    containers: list[ContainerMetrics] = []


class Lister(Protocol):
    """The part of `kube.client.Client` that is needed."""

    async def list(
        self, resource: Resource, /, *, namespace: str, label_selector: str, decode: type[PodMetrics]
    ) -> Listing:
        """List objects of one namespace."""
        ...


class Listing(Protocol):
    """What a list gives."""

    @property
    def items(self) -> Sequence[PodMetrics]:
        """The objects."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class ContainerUsage:
    """A running container: CPU seconds since its start, CPU now, memory now."""

    name: str
    started_at: float
    cpu_seconds: float
    cpu_nanocores: int
    memory_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class PodUsage:
    """A running pod and those of its containers that were measured."""

    pod: MeasuredPod
    containers: tuple[ContainerUsage, ...]

    @property
    def cpu_seconds(self) -> float:
        """Sum over the containers."""
        return sum(c.cpu_seconds for c in self.containers)

    @property
    def cpu_nanocores(self) -> int:
        """Sum over the containers."""
        return sum(c.cpu_nanocores for c in self.containers)

    @property
    def memory_bytes(self) -> int:
        """Sum over the containers."""
        return sum(c.memory_bytes for c in self.containers)


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """One poll: `at` in unix seconds; the node's figures are those of its pods and of this process."""

    at: float
    node_started_at: float
    node_cpu_seconds: float
    node_cpu_nanocores: int
    node_memory_bytes: int
    pods: tuple[PodUsage, ...]
    failed: bool


@dataclasses.dataclass(slots=True)
class _Counter:
    started_at: float
    at: float
    seconds: float


class Usage:
    """Polls on demand and keeps the counters."""

    def __init__(
        self,
        source: StatsSource,
        lister: Lister,
        *,
        label_selector: str,
        max_age: float = 12.0,
        timeout: float = 8.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._lister = lister
        self._label_selector = label_selector
        self._max_age = max_age
        self._timeout = timeout
        self._clock = clock
        self._lock = asyncio.Lock()
        self._last: Snapshot | None = None
        self._counters: dict[tuple[str, str], _Counter] = {}
        self._pods_seconds = 0.0
        self._own = SelfUsage(clock)
        self._asked: asyncio.Semaphore = asyncio.Semaphore(8)

    async def snapshot(self) -> Snapshot:
        """The newest figures, polled now if the last are too old. Never raises for the provider: `failed` says it."""
        async with self._lock:
            now = self._clock()
            if self._last is not None and now - self._last.at < self._age(self._last):
                return self._last
            pods = tuple(self._source.measured_pods())
            metrics, failed = await self._poll(pods)
            self._last = self._integrate(pods, metrics, failed=failed)
            return self._last

    def _age(self, snapshot: Snapshot) -> float:
        return FAILURE_AGE if snapshot.failed else self._max_age

    async def _poll(self, pods: Iterable[MeasuredPod]) -> tuple[dict[tuple[str, str], PodMetrics], bool]:
        """PodMetrics by remote namespace and name; True if some could not be had."""
        namespaces = sorted({pod.remote_namespace for pod in pods})
        answers = await asyncio.gather(*(self._list(namespace) for namespace in namespaces))
        found = {(m.metadata.namespace, m.metadata.name): m for answer in answers for m in answer or ()}
        return found, any(answer is None for answer in answers)

    async def _list(self, namespace: str) -> Sequence[PodMetrics] | None:
        try:
            async with asyncio.timeout(self._timeout), self._asked:
                listing = await self._lister.list(
                    POD_METRICS, namespace=namespace, label_selector=self._label_selector, decode=PodMetrics
                )
        except (KubeError, TimeoutError) as error:
            log.warning("pod metrics not read", remote_namespace=namespace, error=type(error).__name__)
            return None
        return listing.items

    def _integrate(
        self, pods: Sequence[MeasuredPod], metrics: Mapping[tuple[str, str], PodMetrics], *, failed: bool
    ) -> Snapshot:
        now = self._clock()
        used = []
        for pod in pods:
            found = metrics.get((pod.remote_namespace, pod.remote_name))
            if found is not None:
                used.append(PodUsage(pod, tuple(self._containers(pod, found, now=now))))
        known = {(pod.uid, name) for pod in pods for name in pod.containers}
        self._counters = {key: counter for key, counter in self._counters.items() if key in known}
        own = self._own.read()
        return Snapshot(
            at=now,
            node_started_at=self._own.started_at,
            node_cpu_seconds=self._pods_seconds + own.cpu_seconds,
            node_cpu_nanocores=sum(u.cpu_nanocores for u in used) + own.cpu_nanocores,
            node_memory_bytes=sum(u.memory_bytes for u in used) + own.memory_bytes,
            pods=tuple(used),
            failed=failed,
        )

    def _containers(self, pod: MeasuredPod, metrics: PodMetrics, *, now: float) -> Iterable[ContainerUsage]:
        for container in metrics.containers:
            started_at = pod.containers.get(container.name)
            if started_at is None:
                continue
            cpu = _nanos(container.usage.get("cpu"))
            memory = _nanos(container.usage.get("memory"))
            if cpu is None or memory is None:
                continue
            seconds = self._advance((pod.uid, container.name), cpu / 1e9, started_at=started_at, now=now)
            yield ContainerUsage(container.name, started_at, seconds, cpu, memory // 10**9)

    def _advance(self, key: tuple[str, str], cores: float, *, started_at: float, now: float) -> float:
        """Bring a container's counter up to now; a container that was started anew begins anew.

        A new counter is given what the container would have used since its start at its present rate. The node's total
        gets of that only what falls after the last poll, else one new pod would look like a burst of the node.
        """
        counter = self._counters.get(key)
        if counter is None or counter.started_at != started_at:
            age = max(0.0, now - started_at)
            since = age if self._last is None else min(age, max(0.0, now - self._last.at))
            self._pods_seconds += cores * since
            counter = self._counters[key] = _Counter(started_at, now, max(FLOOR, cores * age))
            return counter.seconds
        grown = cores * max(0.0, now - counter.at)
        counter.seconds += grown
        counter.at = max(counter.at, now)
        self._pods_seconds += grown
        return counter.seconds


def _nanos(quantity: str | None) -> int | None:
    """Nano-units of a quantity; None for what is none or negative."""
    try:
        nanos = Quantity.parse(quantity or "").nanos
    except QuantityError:
        return None
    return nanos if nanos >= 0 else None
