"""Telling the pod's owner: what stands in the way of a pod is on the pod itself, in its status and as an event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog

from kube.client import Client, PatchType
from kube.errors import ApiError
from kube.events import EventRecorder
from kube.objects import Object, ObjectReference
from kube.resources import PODS
from kube.store import Key
from reflection.forge import status as forge_status
from reflection.forge.model import Note, Refused
from reflection.ledger import Ledger

log = structlog.get_logger(__name__)


def pod_reference(pod: Object) -> ObjectReference:
    """What an event about this consumer pod refers to."""
    meta = pod.metadata
    return ObjectReference(api_version="v1", kind="Pod", namespace=meta.namespace, name=meta.name, uid=meta.uid)


class Reports:
    """Writes problems and statuses to the consumer's pods; each problem once, until it changes."""

    def __init__(self, consumer: Client, recorder: EventRecorder, ledger: Ledger, *, now: Callable[[], str]) -> None:
        self._consumer = consumer
        self._recorder = recorder
        self._ledger = ledger
        self._now = now

    def event(self, pod: Object, *, kind: str, reason: str, message: str) -> None:
        """Record an event on the consumer's pod."""
        self._recorder.event(pod_reference(pod), type=kind, reason=reason, message=message)

    def notes(self, pod: Object, notes: tuple[Note, ...]) -> None:
        """Tell of fields that were translated in a way the owner should know."""
        for note in notes:
            self.event(pod, kind="Warning", reason=note.reason, message=note.message)

    async def problem(self, key: Key, origin: Object, pod: dict[str, Any], problem: Refused) -> None:
        """Say on the pod why it does not run: status and event, once for each different text."""
        entry = self._ledger[key]
        text = f"{problem.field}: {problem.reason}"
        if entry.reported == text:
            return
        log.warning("pod not offloaded", pod=f"{key[0]}/{key[1]}", field=problem.field, reason=problem.reason)
        self.event(origin, kind="Warning", reason="OffloadRefused", message=text)
        await self.status(key, origin, pod, forge_status.refused_status(pod, problem, now=self._now()))
        entry.reported = text

    async def status(self, key: Key, origin: Object, pod: dict[str, Any], wanted: dict[str, Any]) -> bool:
        """Patch the consumer's pod to the wanted status, only what changed; False if nothing had to be written."""
        patch = forge_status.status_patch(pod.get("status") or {}, wanted)
        if patch is None:
            return False
        body = {**patch, "metadata": {"uid": origin.metadata.uid}}  # the UID is a precondition, not a change
        try:
            updated = await self._consumer.patch(
                PODS,
                body,
                name=key[1],
                namespace=key[0],
                subresource="status",
                kind=PatchType.STRATEGIC,
                decode=Object,
            )
        except ApiError as error:
            if error.not_found or error.status == 409:
                return False  # gone, or another pod by now: the watch will tell
            raise
        self._ledger[key].origin_version = updated.metadata.resource_version
        return True
