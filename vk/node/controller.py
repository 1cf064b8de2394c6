"""Keeps the Node object as it should be: there, ours, and telling the truth.

Status is written at once when something has changed and otherwise every 5 minutes, as kubelets do
(nodeStatusReportFrequency); what should be there is computed anew every 10 s and whenever a part of us or the watch
of our own Node says "changed". The Node is never deleted, for then the control plane would delete its pods; if
someone else deletes it, it is made again at once. A Node of our name that is not ours ends the process with
ForeignNodeError.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from kube.backoff import Backoff
from kube.client import Client, PatchType
from kube.errors import ApiError, KubeError
from kube.objects import ObjectReference, revision
from kube.reflector import Reflector
from kube.resources import NODES
from kube.store import Change
from vk.node import forge
from vk.node.clock import REQUEST_SECONDS, SYSTEM, Clock, rfc3339, wait
from vk.node.objects import Node
from vk.node.settings import MARKER_LABEL, NodeSettings
from vk.node.signals import CapacitySource, Condition, ConditionSource, Notifier, ReadinessProbe

COMPUTE_SECONDS = 10.0
REPORT_SECONDS = 300.0
REFUSED_SECONDS = 30.0

_log = structlog.get_logger(__name__)


class ForeignNodeError(Exception):
    """A Node of our name exists and belongs to someone else; nothing was changed. Choose another name."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"node {name!r} exists and was not made by isthmus (no label {MARKER_LABEL}): choose "
            "another node name, or delete that Node if nothing uses it"
        )


class EventSink(Protocol):
    """Where Events about the Node go; must not block."""

    def event(self, ref: ObjectReference, *, type: str, reason: str, message: str) -> None:
        """Say something about an object."""


@dataclass(slots=True)
class DriftBudget:
    """How often we write over another writer's changes: a burst, then one write per `period` seconds. Pure."""

    burst: int = 10
    period: float = 10.0
    _spent: float = 0.0
    _at: float = 0.0

    def take(self, now: float) -> float:
        """Spend one write: 0.0 if it may be made, else the seconds until one may."""
        self._spent = max(0.0, self._spent - (now - self._at) / self.period)
        self._at = now
        if self._spent + 1.0 <= self.burst:
            self._spent += 1.0
            return 0.0
        return (self._spent + 1.0 - self.burst) * self.period


class NodeController:
    """Owns the Node object. `established` is set once the Node is known to be ours; `changed` tells of a new `uid`."""

    def __init__(
        self,
        client: Client,
        *,
        settings: NodeSettings,
        capacity: CapacitySource,
        probes: Sequence[ReadinessProbe],
        conditions: Sequence[ConditionSource] = (),
        network: ConditionSource | None = None,
        annotations: Callable[[], Mapping[str, str] | None] = dict,
        recorder: EventSink | None = None,
        clock: Clock = SYSTEM,
        registry: CollectorRegistry | None = None,
    ) -> None:
        """`network` says whether NetworkUnavailable; None: nobody measures, and it is not."""
        self.established = asyncio.Event()
        self.changed = Notifier()
        self._client = client
        self._settings = settings
        self._capacity = capacity
        self._probes = tuple(probes)
        self._conditions = tuple(conditions)
        self._network = network
        self._annotations = annotations
        self._recorder = recorder
        self._clock = clock
        self._backoff = Backoff(base=0.5, maximum=10.0)
        self._drift = DriftBudget()
        self._wake = asyncio.Event()
        self._live: Node | None = None
        self._uid = ""
        self._written: forge.Desired | None = None
        self._reported = float("-inf")
        self._reflector: Reflector[Node] = Reflector(
            client,
            NODES,
            decode=Node,
            field_selector=f"metadata.name={settings.name}",
            on_change=self._observe,
            registry=registry,
        )
        self._ready = Gauge("isthmus_node_ready", "Whether the Node was last reported Ready", registry=registry)
        self._writes = Counter(
            "isthmus_node_writes", "Writes of the Node by what was written", ["what"], registry=registry
        )
        sources: list[ConditionSource] = [*conditions, *([network] if network is not None else [])]
        told = [capacity.changed, *(probe.changed for probe in probes), *(source.changed for source in sources)]
        for notifier in told:
            notifier.subscribe(self._wake.set)

    @property
    def uid(self) -> str:
        """The Node's UID; empty before `established`."""
        return self._uid

    async def run(self) -> None:
        """Keep the Node forever; ForeignNodeError if it is not ours to keep."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep(), name="node-keeper")
                await self.established.wait()
                group.create_task(self._reflector.run(), name="node-watch")
        except ExceptionGroup as failures:
            foreign = failures.subgroup(ForeignNodeError)
            raise (foreign.exceptions[0] if foreign else failures) from None

    def desired(self) -> forge.Desired:
        """What the Node should say now."""
        extra = tuple(source.condition for source in self._conditions)
        return forge.Desired(
            ready=forge.ready_condition(probe.verdict for probe in self._probes),
            resources=self._capacity.resources,
            network=self._network.condition if self._network is not None else forge.NO_ROUTE,
            extra=tuple(condition for condition in extra if condition is not None),
            annotations=self._annotations(),
        )

    def _observe(self, change: Change[Node]) -> None:
        """The watch's view; older than what our own write returned, it is not news."""
        if change.new is None:
            if change.old and self._live and change.old.metadata.uid != self._live.metadata.uid:
                return
            _log.warning("node_deleted_by_someone", node=self._settings.name)
            self._live = None
        elif self._live is None or not older(change.new, self._live):
            self._live = change.new
        else:
            return
        self._wake.set()

    async def _keep(self) -> None:
        while True:
            self._wake.clear()
            refused = await self._attempt()
            if refused is None:
                await wait(self._wake, seconds=COMPUTE_SECONDS)
            else:
                await asyncio.sleep(refused)  # not cut short: what wakes us must not turn a refusal into a hot loop

    async def _attempt(self) -> float | None:
        """Converge once; None if nothing is left to do, else seconds until the next attempt."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                postponed = await self._converge()
        except ApiError as error:
            return self._after_answer(error)
        except (KubeError, TimeoutError) as error:
            delay = self._backoff.next()
            _log.warning(
                "node_update_failed", node=self._settings.name, error=str(error) or "timeout", retry_after=delay
            )
            return delay
        self._backoff.reset()
        return postponed or None

    def _after_answer(self, error: ApiError) -> float:
        if error.not_found or error.already_exists or error.conflict:
            self._live = None  # what we believe is out of date
            delay = self._backoff.next()
        elif error.retryable:
            delay = error.retry_after or self._backoff.next()
        else:
            delay = REFUSED_SECONDS
        _log.warning(
            "node_update_refused", node=self._settings.name, status=error.status, error=str(error), retry_after=delay
        )
        return delay

    async def _converge(self) -> float:
        """Make the Node right; the seconds to wait before writing over another writer again, 0.0 normally."""
        if self._reflector.synced.is_set() and self._reflector.store.get(("", self._settings.name)) is None:
            self._live = None  # deleted before the watch began, or made a moment ago: a GET tells
        desired = self.desired()
        live = self._live or await self._find() or await self._create(desired)
        self._live = live
        if not forge.owned(live):
            raise ForeignNodeError(self._settings.name)
        self._establish(live)
        drift = desired == self._written
        now = self._clock.monotonic()
        metadata = forge.metadata_patch(self._settings, desired, live=live)
        due = now - self._reported >= REPORT_SECONDS
        status = forge.status_patch(self._settings, desired, live=live, now=rfc3339(self._clock.now()), heartbeat=due)
        if drift and not due and (metadata or status) and (postponed := self._drift.take(now)):
            _log.warning("node_is_overwritten_by_someone", node=self._settings.name, retry_after=postponed)
            return postponed
        if metadata:
            self._live = await self._patch(metadata, subresource=None)
        if status:
            self._live = await self._patch(status, subresource="status")
            self._reported = now
            self._report(desired)
            self._tell(forge.transitions(desired, live=live))
        self._written = desired
        return 0.0

    async def _find(self) -> Node | None:
        return await self._client.find(NODES, name=self._settings.name, decode=Node)

    async def _create(self, desired: forge.Desired) -> Node:
        body = forge.new_node(self._settings, desired, now=rfc3339(self._clock.now()))
        node = await self._client.create(NODES, body, decode=Node)
        self._writes.labels("create").inc()
        self._reported = self._clock.monotonic()
        self._report(desired)
        _log.info("node_created", node=self._settings.name, uid=node.metadata.uid)
        return node

    async def _patch(self, body: forge.Json, *, subresource: str | None) -> Node:
        name, kind = self._settings.name, PatchType.STRATEGIC
        node = await self._client.patch(NODES, body, name=name, subresource=subresource, kind=kind, decode=Node)
        self._writes.labels(subresource or "metadata").inc()
        return node

    def _establish(self, live: Node) -> None:
        if live.metadata.uid == self._uid:
            return
        self._uid = live.metadata.uid
        if missing := forge.missing_taints(self._settings, live=live):
            _log.warning(
                "node_lacks_taints", node=self._settings.name, taints=missing, hint="only an administrator can add them"
            )
        self.established.set()
        self.changed.notify()

    def _tell(self, conditions: Sequence[Condition]) -> None:
        """Events about conditions that have changed, on the Node as kubelets name it (its name as its UID)."""
        if self._recorder is None:
            return
        ref = ObjectReference(api_version="v1", kind="Node", name=self._settings.name, uid=self._settings.name)
        for condition in conditions:
            severity = "Normal" if condition.status == condition.normal else "Warning"
            message = f"{condition.type} is {condition.status}: {condition.message}"
            self._recorder.event(ref, type=severity, reason=condition.reason, message=message)

    def _report(self, desired: forge.Desired) -> None:
        if desired.ready is not None:
            self._ready.set(desired.ready.status == "True")


def older(one: Node, other: Node) -> bool:
    """Whether `one` is an earlier state of the same Node than `other`."""
    before, after = revision(one.metadata.resource_version), revision(other.metadata.resource_version)
    if one.metadata.uid != other.metadata.uid or before is None or after is None:
        return False
    return before < after
