"""Pods that find no place at the provider for too long: evicted here, so that their owners make others elsewhere.

A virtual node offers a sum; the provider has single nodes. A pod that fits the sum and no node would wait for ever,
and the scheduler would send the next one after it. With a limit set, a waiting pod that has a controller is evicted
through the consumer's API (disruption budgets hold), and for a while the Node tells that placement fails, so that the
scheduler can prefer others. A pod without a controller is only told of: nobody would make another.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import prometheus_client
import structlog

from kube.client import Client
from kube.controller import Controller, Result
from kube.errors import ApiError
from kube.objects import Object
from kube.resources import PODS
from kube.store import Key, Store
from reflection import ownership
from reflection.reports import Reports

log = structlog.get_logger(__name__)

FAILING_SECONDS = 600.0
"""How long after an eviction the node says that placement fails there."""
BLOCKED_SECONDS = 10.0


class _Condition(msgspec.Struct):
    type: Any = None
    status: Any = None
    reason: Any = None
    message: Any = None


class _Status(msgspec.Struct):
    conditions: list[_Condition] | None = None


class _Spec(msgspec.Struct, rename="camel"):
    node_name: Any = None


def unplaced(remote: Object) -> str | None:
    """The provider's words if its scheduler finds no node for a pod; None otherwise."""
    if remote.metadata.deletion_timestamp is not None:
        return None
    try:
        if msgspec.json.decode(remote.spec, type=_Spec).node_name:
            return None
        conditions = msgspec.json.decode(remote.status, type=_Status).conditions or []
    except msgspec.DecodeError:
        return None
    for one in conditions:
        if one.type == "PodScheduled" and one.status == "False":
            return str(one.message or one.reason or "no reason given")[:512]
    return None


class PendingLimit:
    """Watches over waiting pods. `remote` finds a pod's remote one; `timeout` is in seconds, None for no limit.

    Waiting is counted from when this process first saw it: a restart begins anew.
    """

    def __init__(
        self,
        consumer: Client,
        pods: Store[Object],
        reports: Reports,
        *,
        remote: Callable[[Key], Object | None],
        timeout: float | None,
        clock: Callable[[], float] = time.monotonic,
        registry: prometheus_client.CollectorRegistry | None = None,
    ) -> None:
        self.failing_changed: list[Callable[[], None]] = []
        """Called when `failing` may have changed."""
        self._consumer = consumer
        self._pods = pods
        self._reports = reports
        self._remote = remote
        self._timeout = timeout
        self._clock = clock
        self._since: dict[Key, tuple[str, float]] = {}
        self._failed_at = float("-inf")
        self._failure = ""
        self.controller: Controller[Key] = Controller("pending", self.reconcile, registry=registry)

    @property
    def failing(self) -> str | None:
        """Why placement fails at the provider, if pods were evicted for it lately."""
        return self._failure if self._clock() - self._failed_at < FAILING_SECONDS else None

    def remote_changed(self, remote: Object | None, key: Key) -> None:
        """A remote pod of this consumer's key changed, or went."""
        if self._timeout is None:
            return
        if remote is None or unplaced(remote) is None:
            self._since.pop(key, None)
        elif self._since.get(key, ("", 0.0))[0] != remote.metadata.uid:
            self._since[key] = (remote.metadata.uid, self._clock())
            self.controller.queue.add(key, delay=self._timeout)

    async def reconcile(self, key: Key) -> Result | None:
        """Evict the pod if it has waited too long."""
        remote, pod = self._remote(key), self._pods.get(key)
        known = self._since.get(key)
        if remote is None or pod is None or known is None or known[0] != remote.metadata.uid or self._timeout is None:
            return None
        why = unplaced(remote)
        if why is None or ownership.origin_uid(remote.metadata) != pod.metadata.uid:
            return None
        left = known[1] + self._timeout - self._clock()
        if left > 0:
            return Result(requeue_after=left)
        return await self._act(key, pod, why)

    async def _act(self, key: Key, pod: Object, why: str) -> Result | None:
        waited = f"waited {self._timeout:.0f} s for a place at the provider ({why})"
        self._failed_at, self._failure = self._clock(), why
        for listener in self.failing_changed:
            listener()
        if pod.metadata.deletion_timestamp is not None:
            return None
        if not any(owner.controller for owner in pod.metadata.owner_references):
            message = f"{waited}; it is not evicted, for it has no controller that would make another"
            self._reports.event(pod, kind="Warning", reason="PendingTimeout", message=message)
            return None
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": key[1], "namespace": key[0]},
            "deleteOptions": {"preconditions": {"uid": pod.metadata.uid}},
        }
        try:
            await self._consumer.create(PODS, body, namespace=key[0], name=key[1], subresource="eviction")
        except ApiError as error:
            if error.not_found or error.conflict:
                return None
            message = f"{waited}; it cannot be evicted now: {error.message}"
            self._reports.event(pod, kind="Warning", reason="PendingTimeout", message=message)
            return Result(requeue_after=BLOCKED_SECONDS)
        log.info("evicted a pod without a place", pod=f"{key[0]}/{key[1]}", reason=why)
        self._reports.event(pod, kind="Warning", reason="PendingTimeout", message=f"{waited}; evicted")
        return None
