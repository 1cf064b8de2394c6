"""Telling the owner of an object why it is not, or not wholly, at the provider: an event once, and a list to ask."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kube.events import EventRecorder
from kube.objects import Metadata, ObjectReference
from kube.resources import Resource
from kube.store import Key
from reflection.kinds.model import Refusal

Place = tuple[str, Key, str]
"""Resource name (`services`), key at the consumer, provider namespace."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why one object is not as it should be at the provider."""

    resource: str
    namespace: str
    name: str
    reason: str
    message: str


class Reports:
    """What there is to tell, by object. Events are written only when it changes."""

    def __init__(self, recorder: EventRecorder, *, provider: str) -> None:
        self._recorder = recorder
        self._provider = provider
        self._told: dict[Place, tuple[Refusal, ...]] = {}
        self.changed: list[Callable[[str], None]] = []
        """Told the consumer namespace of which there is something else to tell."""

    def tell(self, place: Place, resource: Resource, origin: Metadata, found: Iterable[Refusal]) -> None:
        """Set what there is to tell about an object; nothing clears it."""
        now = tuple(found)
        before = self._told.get(place, ())
        if not now:
            self.forget(place)
            return
        self._told[place] = now
        if now != before:
            self._notify(place)
        ref = ObjectReference(
            kind=resource.kind,
            namespace=origin.namespace,
            name=origin.name,
            uid=origin.uid,
            api_version=resource.api_version,
        )
        for item in now:
            if item not in before:
                text = f"provider {self._provider}: {item.message}"
                self._recorder.event(ref, type="Warning", reason=item.reason, message=text)

    def forget(self, place: Place) -> None:
        """The object is no more, or no longer wanted at the provider."""
        if self._told.pop(place, None) is not None:
            self._notify(place)

    def _notify(self, place: Place) -> None:
        for listener in self.changed:
            listener(place[1][0])

    def problems(self, namespace: str) -> list[Problem]:
        """All that is to tell about a consumer namespace, for its NamespaceOffloading."""
        return sorted(
            (
                Problem(name, namespace, key[1], item.reason, item.message)
                for (name, key, _remote), items in self._told.items()
                if key[0] == namespace
                for item in items
            ),
            key=lambda problem: (problem.resource, problem.name, problem.reason),
        )
