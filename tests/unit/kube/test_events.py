import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from kube import events
from kube.client import Client
from kube.events import BURST, COMBINED, QUEUE_LIMIT, SIMILAR, EventRecorder, clean
from kube.objects import ObjectReference
from tests.unit.kube.fakeapi import FakeApi, failure, until

POD = ObjectReference(kind="Pod", namespace="ns", name="p", uid="u1", api_version="v1")


class Written:
    """What reached the API server; answers as it does."""

    def __init__(self, api: FakeApi) -> None:
        self.calls: list[tuple[str, str, dict[str, object]]] = []
        self.answers: list[web.Response] = []
        api.script = self._answer

    async def _answer(self, request: web.Request) -> web.Response:
        self.calls.append((request.method, request.path, await request.json()))
        if self.answers:
            return self.answers.pop(0)
        return web.json_response({"kind": "Event", "metadata": {"name": f"e{len(self.calls)}"}})


@asynccontextmanager
async def running(client: Client, registry: CollectorRegistry | None = None) -> AsyncIterator[EventRecorder]:
    recorder = EventRecorder(client, component="isthmus", host="n1", registry=registry)
    task = asyncio.create_task(recorder.run())
    try:
        yield recorder
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_event_is_written_and_repeats_are_counted(api: FakeApi, client: Client) -> None:
    written = Written(api)
    async with running(client) as recorder:
        for _ in range(3):
            recorder.event(POD, type="Warning", reason="Failed", message="no")
        recorder.event(POD, type="Warning", reason="Failed", message="other")
        await until(lambda: len(written.calls) == 4)
    method, path, body = written.calls[0]
    assert (method, path) == ("POST", "/api/v1/namespaces/ns/events")
    assert body["involvedObject"] == {"apiVersion": "v1", "kind": "Pod", "namespace": "ns", "name": "p", "uid": "u1"}
    assert (body["type"], body["reason"], body["message"], body["count"]) == ("Warning", "Failed", "no", 1)
    assert [(call[0], call[1], call[2]["count"]) for call in written.calls[1:3]] == [
        ("PATCH", "/api/v1/namespaces/ns/events/e1", 2),
        ("PATCH", "/api/v1/namespaces/ns/events/e1", 3),
    ]
    assert written.calls[3][0] == "POST"


async def test_an_event_that_was_removed_is_written_anew(api: FakeApi, client: Client) -> None:
    written = Written(api)
    async with running(client) as recorder:
        recorder.event(POD, type="Normal", reason="R", message="m")
        await until(lambda: len(written.calls) == 1)
        written.answers = [failure(404, "NotFound")]
        recorder.event(POD, type="Normal", reason="R", message="m")
        await until(lambda: len(written.calls) == 3)
    assert [call[0] for call in written.calls] == ["POST", "PATCH", "POST"]


async def test_events_of_cluster_wide_objects_go_to_default(api: FakeApi, client: Client) -> None:
    written = Written(api)
    async with running(client) as recorder:
        recorder.event(ObjectReference(kind="Node", name="n", uid="n"), type="Normal", reason="R", message="m")
        await until(lambda: len(written.calls) == 1)
    assert written.calls[0][1] == "/api/v1/namespaces/default/events"


async def test_i7_one_object_cannot_flood(api: FakeApi, client: Client, registry: CollectorRegistry) -> None:
    written = Written(api)
    async with running(client, registry) as recorder:
        for number in range(100):
            recorder.event(POD, type="Normal", reason=f"R{number}", message="m")
        recorder.event(
            ObjectReference(kind="Pod", namespace="ns", name="q", uid="u2"), type="N", reason="R", message="m"
        )
        await until(lambda: len(written.calls) == BURST + 1)
    dropped = registry.get_sample_value("isthmus_events_total", {"outcome": "dropped"})
    assert dropped == 100 - BURST


async def test_a29_a_flood_about_many_objects_is_paced(
    api: FakeApi, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that is said arrives, no faster than the bucket of all fills."""
    monkeypatch.setattr(events, "TOTAL_BURST", 5)
    monkeypatch.setattr(events, "TOTAL_PER_SECOND", 20.0)
    written = Written(api)
    recorder = EventRecorder(client, component="isthmus", host="n1")
    began = time.monotonic()
    task = asyncio.create_task(recorder.run())
    try:
        for number in range(15):
            ref = ObjectReference(kind="Pod", namespace="ns", name=f"p{number}", uid=f"u{number}")
            recorder.event(ref, type="Warning", reason="R", message="m")
        await until(lambda: len(written.calls) == 15)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert time.monotonic() - began >= 10 / 20 - 0.1


async def test_many_messages_for_one_reason_are_combined(api: FakeApi, client: Client) -> None:
    written = Written(api)
    async with running(client) as recorder:
        for number in range(SIMILAR + 5):
            recorder.event(POD, type="Warning", reason="R", message=f"try {number}")
        await until(lambda: len(written.calls) == SIMILAR + 5)
    assert [call[0] for call in written.calls] == ["POST"] * (SIMILAR + 1) + ["PATCH"] * 4
    assert written.calls[SIMILAR][2]["message"] == f"{COMBINED}try {SIMILAR}"
    assert written.calls[-1][2]["message"] == f"{COMBINED}try {SIMILAR + 4}"
    assert written.calls[-1][2]["count"] == 5


async def test_i8_the_queue_is_bounded_and_never_blocks(client: Client) -> None:
    recorder = EventRecorder(client, component="c", host="h")
    for number in range(QUEUE_LIMIT + 100):
        recorder.event(ObjectReference(uid=f"u{number}"), type="N", reason="R", message="m")
    assert recorder._queue.qsize() == QUEUE_LIMIT


async def test_a_failed_write_loses_that_event_only(api: FakeApi, client: Client) -> None:
    written = Written(api)
    written.answers = [failure(403, "Forbidden")]
    with structlog.testing.capture_logs():
        async with running(client) as recorder:
            recorder.event(POD, type="N", reason="A", message="m")
            recorder.event(POD, type="N", reason="B", message="m")
            await until(lambda: len(written.calls) == 2)
    assert [call[2]["reason"] for call in written.calls] == ["A", "B"]


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain\ttab\nline é", "plain\ttab\nline é"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\x00b\u202ec\x9b", "a\\x00b\\x202ec\\x9b"),
    ],
)
def test_a33_messages_carry_no_control_characters(text: str, safe: str) -> None:
    assert clean(text) == safe
    assert len(clean("x" * 5000)) == 1024
