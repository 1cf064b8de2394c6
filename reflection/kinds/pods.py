"""How many healthy pods of ours a selector selects at the provider; for budgets only, and watched only where there are
any."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import prometheus_client

from kube.client import Client
from kube.objects import Metadata
from kube.reflector import Reflector, Timing
from kube.resources import PODS
from kube.store import Change
from reflection import ownership
from reflection.kinds.model import Json
from reflection.kinds.pool import ReflectorPool
from reflection.kinds.selection import LabelSelector


class _Condition(msgspec.Struct, frozen=True, gc=False):
    type: str = ""
    status: str = ""


class _Status(msgspec.Struct, frozen=True, gc=False):
    conditions: tuple[_Condition, ...] | None = ()


class Pod(msgspec.Struct, frozen=True, gc=False):
    """What is kept of a remote pod."""

    metadata: Metadata = Metadata()
    status: _Status | None = None

    @property
    def healthy(self) -> bool:
        """Ready and not on its way out, as the disruption controller counts (countHealthyPods)."""
        if self.status is None or self.metadata.deletion_timestamp is not None:
            return False
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions or ())


class RemotePods:
    """Our pods in provider namespaces. `changed` gets the namespace in which the healthy ones changed."""

    def __init__(
        self,
        provider: Client,
        *,
        consumer_id: str,
        pool: ReflectorPool,
        changed: Callable[[str], None],
        resync: float,
        registry: prometheus_client.CollectorRegistry | None = None,
    ) -> None:
        self._provider = provider
        self._selector = ownership.consumer_selector(consumer_id)
        self._pool = pool
        self._changed = changed
        self._timing = Timing(resync=resync)
        self._registry = registry
        self._namespaces: dict[str, Reflector[Pod]] = {}

    def known(self, namespace: str) -> bool:
        """Whether they can be counted; begins to watch the namespace if they can't."""
        found = self._namespaces.get(namespace)
        if found is None:
            found = self._namespaces[namespace] = Reflector(
                self._provider,
                PODS,
                decode=Pod,
                namespace=namespace,
                label_selector=self._selector,
                on_change=lambda change: self._pod_changed(namespace, change),
                registry=self._registry,
                timing=self._timing,
            )
            self._pool.start(found, name=f"healthy pods/{namespace}", synced=lambda: self._changed(namespace))
        return found.synced.is_set()

    def close(self, namespace: str) -> None:
        """Stop watching a namespace."""
        found = self._namespaces.pop(namespace, None)
        if found is not None:
            self._pool.stop(found)

    def healthy(self, namespace: str, selector: Json) -> int:
        """How many healthy pods a metav1.LabelSelector selects."""
        found = self._namespaces.get(namespace)
        wanted = LabelSelector.parse(selector)
        pods = found.store.values() if found is not None else ()
        return sum(1 for pod in pods if pod.healthy and wanted.matches(pod.metadata.labels))

    def _pod_changed(self, namespace: str, change: Change[Pod]) -> None:
        if (change.old is not None and change.old.healthy) != (change.new is not None and change.new.healthy):
            self._changed(namespace)
