"""The provider's events about a remote pod, told on the consumer's pod.

Warnings go at once. Normal events of a healthy start (Scheduled, Pulled, Created, Started ...) come within a second
or two and are told as one event: a third of a burst's API requests would be events otherwise.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime

import prometheus_client

from kube.controller import Controller, Result
from kube.objects import Event, Object
from kube.store import Change, Key, Store
from reflection import ownership
from reflection.caches import RemoteCaches
from reflection.reports import Reports

GATHER = 2.0
"""Seconds for which normal events of one pod are gathered into one."""
MOST = 16
"""Normal events kept per pod while gathering."""
EARLY = 1.0
"""Seconds after which an event is looked at again that came before its pod: the two come by watches of their own."""
MOST_EARLY = 4096
"""Events kept that came before their pods; a provider may send events of pods that never come."""


@dataclass(slots=True)
class Gathered:
    """Normal events of one pod that have yet to be told."""

    uid: str
    parts: list[tuple[str, str]] = field(default_factory=list)


class EventMirror:
    """Listens to the provider's events and records them at the consumer."""

    def __init__(
        self,
        pods: Store[Object],
        caches: RemoteCaches,
        reports: Reports,
        *,
        registry: prometheus_client.CollectorRegistry | None = None,
    ) -> None:
        self._pods = pods
        self._caches = caches
        self._reports = reports
        self._since = datetime.now(UTC)
        self._gathered: dict[Key, Gathered] = {}
        self._early: dict[Key, Event] = {}
        self.controller: Controller[Key] = Controller("events", self._tell, registry=registry)
        self.early: Controller[Key] = Controller("early-events", self._look_again, registry=registry)

    async def run(self) -> None:
        """Tell gathered events; ends only by cancellation or a programming error."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.controller.run(), name="controller/events")
            group.create_task(self.early.run(), name="controller/early-events")

    def remote_changed(self, namespace: str, change: Change[Event]) -> None:
        """A provider's event came or was repeated."""
        event = change.new
        if event is None or self._is_old(event):
            return
        found = self._origin(namespace, event)
        if found is not None:
            self._hear(event, *found)
        elif len(self._early) < MOST_EARLY:
            key = (namespace, event.metadata.name)
            self._early[key] = event
            self.early.queue.add(key, delay=EARLY)

    async def _look_again(self, key: Key) -> Result | None:
        event = self._early.pop(key, None)
        found = self._origin(key[0], event) if event is not None else None
        if event is not None and found is not None:
            self._hear(event, *found)
        return None

    def _hear(self, event: Event, key: Key, origin: Object) -> None:
        if event.type != "Normal":
            self._reports.event(origin, kind="Warning", reason=event.reason, message=event.message)
            return
        gathered = self._gathered.get(key)
        if gathered is None or gathered.uid != origin.metadata.uid:
            gathered = self._gathered[key] = Gathered(origin.metadata.uid)
            self.controller.queue.add(key, delay=GATHER)
        if len(gathered.parts) < MOST:
            gathered.parts.append((event.reason, event.message))

    def _is_old(self, event: Event) -> bool:
        """Told by an earlier process, or before the pod was ours to tell about."""
        text = event.last_timestamp or event.metadata.creation_timestamp
        if not text:
            return False
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() < self._since.timestamp() - 1

    def _origin(self, namespace: str, event: Event) -> tuple[Key, Object] | None:
        caches = self._caches.get(namespace)
        about = event.involved_object
        remote = caches.pods.store.get((namespace, about.name)) if caches is not None else None
        if remote is None or (about.uid and about.uid != remote.metadata.uid):
            return None
        key = ownership.origin_key(remote.metadata)
        origin = self._pods.get(key) if key is not None else None
        if key is None or origin is None or origin.metadata.uid != ownership.origin_uid(remote.metadata):
            return None
        return key, origin

    async def _tell(self, key: Key) -> Result | None:
        gathered = self._gathered.pop(key, None)
        origin = self._pods.get(key)
        if gathered is None or origin is None or origin.metadata.uid != gathered.uid:
            return None
        reason = gathered.parts[-1][0]
        message = "; ".join(dict.fromkeys(f"{r}: {m}" for r, m in gathered.parts))
        self._reports.event(origin, kind="Normal", reason=reason, message=message)
        return None
