"""Which of the provider's events are told, on which pod, and how many times."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

import pytest

from kube.objects import Event, Metadata, Object, ObjectReference
from kube.store import Change, MutableStore
from reflection import events
from reflection.caches import RemoteCaches
from reflection.forge import names
from reflection.reports import Reports


def now() -> str:
    """As an event carries it; asked for each time, for a mirror is deaf to what was before it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Told:
    """Stands for Reports: remembers what was said."""

    said: list[tuple[str, str, str]] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def event(self, _pod: Object, *, kind: str, reason: str, message: str) -> None:
        self.said.append((kind, reason, message))
        self.news.set()


@dataclass
class Namespace:
    """Stands for RemoteCaches with one namespace."""

    pods: "Namespace | None" = None
    store: MutableStore[Object] = field(default_factory=MutableStore)

    def get(self, _name: str) -> "Namespace":
        return Namespace(pods=self)


class Scene:
    """An EventMirror, and the two pods its events are about."""

    def __init__(self) -> None:
        self.told, self.remotes, self.origins = Told(), Namespace(), MutableStore[Object]()
        self.mirror = events.EventMirror(
            self.origins, cast(RemoteCaches, self.remotes), cast(Reports, self.told), registry=None
        )
        self.origins.upsert(Object(metadata=Metadata(name="a", namespace="web", uid="o1", resource_version="1")))

    def add_remote(self) -> None:
        annotations = {names.ORIGIN_NAMESPACE: "web", names.ORIGIN_NAME: "a", names.ORIGIN_UID: "o1"}
        meta = Metadata(name="a", namespace="web-x", uid="r1", resource_version="1", annotations=annotations)
        self.remotes.store.upsert(Object(metadata=meta))

    def tell(self, reason: str, *, kind: str = "Normal", uid: str = "r1", at: str = "") -> None:
        event = Event(
            metadata=Metadata(name=f"a.{reason}", namespace="web-x"),
            involved_object=ObjectReference(kind="Pod", namespace="web-x", name="a", uid=uid),
            reason=reason,
            message=f"{reason}!",
            type=kind,
            last_timestamp=at or now(),
        )
        self.mirror.remote_changed("web-x", Change(("web-x", event.metadata.name), None, event, initial=False))

    async def next(self) -> list[tuple[str, str, str]]:
        """What is said next, with all before."""
        self.told.news.clear()
        run = asyncio.ensure_future(self.mirror.run())
        try:
            async with asyncio.timeout(10):
                await self.told.news.wait()
        finally:
            run.cancel()
            await asyncio.wait({run})
        return self.told.said


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(events, "GATHER", 0.05)
    monkeypatch.setattr(events, "EARLY", 0.05)
    return Scene()


async def test_a_warning_is_told_at_once(scene: Scene) -> None:
    scene.add_remote()
    scene.tell("BackOff", kind="Warning")
    assert scene.told.said == [("Warning", "BackOff", "BackOff!")]


async def test_normal_events_of_a_start_are_one(scene: Scene) -> None:
    scene.add_remote()
    for reason in ("Scheduled", "Pulled", "Created", "Started"):
        scene.tell(reason)
    said = await scene.next()
    message = "Scheduled: Scheduled!; Pulled: Pulled!; Created: Created!; Started: Started!"
    assert said == [("Normal", "Started", message)]


async def test_an_event_that_comes_before_its_pod_is_not_lost(scene: Scene) -> None:
    scene.tell("FailedScheduling", kind="Warning")
    assert scene.told.said == []
    scene.add_remote()
    assert await scene.next() == [("Warning", "FailedScheduling", "FailedScheduling!")]


async def test_events_of_another_pod_of_the_name_or_of_before_are_not_told(scene: Scene) -> None:
    scene.add_remote()
    scene.tell("Killing", kind="Warning", uid="r0")
    scene.tell("BackOff", kind="Warning", at="2020-01-01T00:00:00Z")
    scene.tell("Last", kind="Warning")
    assert scene.told.said == [("Warning", "Last", "Last!")]
