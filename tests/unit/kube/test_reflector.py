import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from kube.client import Client
from kube.errors import ApiError
from kube.objects import ConfigMap
from kube.reflector import Reflector, Timing
from kube.resources import CONFIG_MAPS, Resource
from kube.store import Change, Evidence
from tests.unit.kube import fakeapi
from tests.unit.kube.fakeapi import FakeApi, event, failure, until

QUICK = Timing(retry_first=0.01, retry_most=0.1, refused_first=0.01, refused_most=0.1, healthy=30.0, inactivity=5.0)


class Seen:
    """A running reflector and what it told."""

    def __init__(self, client: Client, timing: Timing, resource: Resource = CONFIG_MAPS) -> None:
        self.changes: list[Change[ConfigMap]] = []
        self.reflector = Reflector(
            client, resource, decode=ConfigMap, namespace="ns", on_change=self.changes.append, timing=timing
        )

    @property
    def names(self) -> set[str]:
        return {key[1] for key in self.reflector.store.keys()}  # noqa: SIM118 - a store is no mapping

    def data(self, name: str) -> dict[str, str] | None:
        item = self.reflector.store.get(("ns", name))
        return item.data if item is not None else None

    def evidence(self, name: str) -> Evidence | None:
        grave = self.reflector.store.tombstone(("ns", name))
        return grave.evidence if grave is not None else None


@asynccontextmanager
async def running(
    client: Client, timing: Timing = QUICK, *, synced: bool = True, resource: Resource = CONFIG_MAPS
) -> AsyncIterator[Seen]:
    seen = Seen(client, timing, resource)
    task = asyncio.create_task(seen.reflector.run())
    try:
        if synced:
            async with asyncio.timeout(20):
                await seen.reflector.synced.wait()
        yield seen
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(params=["streaming", "paged"])
def mode(request: pytest.FixtureRequest, api: FakeApi) -> str:
    api.streaming = request.param == "streaming"
    return str(request.param)


async def test_lists_and_follows(api: FakeApi, client: Client, mode: str) -> None:
    for number in range(5):
        api.put(f"n{number}")
    async with running(client) as seen:
        assert len(seen.changes) == 5
        assert all(change.initial for change in seen.changes)
        await until(lambda: seen.reflector.healthy)
        assert seen.reflector.last_contact_age < 20
        api.put("n1", x="1")
        api.delete("n2")
        api.put("n9")
        await until(lambda: "n9" in seen.names)
        assert seen.data("n1") == {"x": "1"}
        assert [(c.key[1], c.initial) for c in seen.changes[5:]] == [("n1", False), ("n2", False), ("n9", False)]
        assert seen.evidence("n2") is Evidence.WATCH
    assert api.counts["list"] == (0 if mode == "streaming" else 1)
    assert not seen.reflector.healthy


async def test_a_closed_watch_is_resumed_without_a_list(api: FakeApi, client: Client, mode: str) -> None:
    api.put("a")
    async with running(client) as seen:
        await until(lambda: seen.reflector.healthy)
        api.close_watches()
        api.put("b")
        await until(lambda: "b" in seen.names)
        api.delete("a")
        await until(lambda: "a" not in seen.names)
        assert seen.evidence("a") is Evidence.WATCH
    assert api.counts["list"] <= 1


async def test_the_end_of_a_watch_by_the_server_is_no_illness(api: FakeApi, client: Client, mode: str) -> None:
    api.put("a")
    async with running(client) as seen:
        await until(lambda: seen.reflector.healthy)
        watches = api.counts["watch"]
        api.close_watches()
        async with asyncio.timeout(20):
            while api.counts["watch"] == watches:
                assert seen.reflector.healthy
                await asyncio.sleep(0)
        api.script = _refuse
        api.close_watches()
        await until(lambda: not seen.reflector.healthy)


async def _refuse(request: web.Request) -> web.Response:
    return failure(500)


async def test_f10_bookmarks_move_the_point_to_resume_from(api: FakeApi, client: Client, mode: str) -> None:
    api.put("a")
    async with running(client) as seen:
        api.bookmark()
        last = api.revision
        await until(lambda: seen.reflector._resource_version == str(last))
        # The server forgets all before the bookmark: the watch can go on all the same.
        api.oldest = last
        before = dict(api.counts)
        api.close_watches()
        api.put("b")
        await until(lambda: "b" in seen.names)
        assert api.counts["list"] == before.get("list", 0)
        assert len([r for r in api.requests if "sendInitialEvents" in r.query]) == 1
        assert seen.reflector.last_error is None


async def test_f6_gone_leads_to_a_list_and_a_difference(api: FakeApi, client: Client, mode: str) -> None:
    for name in "abcdefgh":
        api.put(name)
    async with running(client) as seen:
        await until(lambda: seen.reflector.healthy)
        seen.changes.clear()
        api.delete("a", announce=False)
        api.put("b", announce=False, x="1")
        api.put("i", announce=False)
        api.oldest = api.revision
        api.close_watches()
        await until(lambda: "i" in seen.names)
        assert {change.key[1] for change in seen.changes} == {"a", "b", "i"}
        assert seen.evidence("a") is Evidence.LIST
        assert not any(change.initial for change in seen.changes)


async def test_f8_replayed_events_change_nothing(api: FakeApi, client: Client) -> None:
    old = api.put("a", x="1")
    gone = api.put("g")
    async with running(client) as seen:
        api.put("a", x="2")
        api.delete("g")
        await until(lambda: "g" not in seen.names)
        seen.changes.clear()
        api.say(event("ADDED", old))
        api.say(event("MODIFIED", old))
        api.say(event("ADDED", gone))
        api.say(event("DELETED", old))
        api.put("z")
        await until(lambda: "z" in seen.names)
        assert seen.data("a") == {"x": "2"}
        assert seen.names == {"a", "z"}
        assert [change.key[1] for change in seen.changes] == ["z"]
        # Nor do they move the point to resume from.
        reached = seen.reflector._resource_version
        api.say(event("ADDED", old | {"metadata": old["metadata"] | {"name": "other", "resourceVersion": "1"}}))
        await until(lambda: "other" in seen.names)
        assert seen.reflector._resource_version == reached


async def test_f7_a_watch_that_closes_at_once_is_no_hot_loop(api: FakeApi, client: Client, mode: str) -> None:
    api.put("a")

    async def script(request: web.Request) -> web.StreamResponse | None:
        if "watch" in request.query and "sendInitialEvents" not in request.query:
            return web.Response(body=event("BOOKMARK", {"metadata": {"resourceVersion": str(api.revision)}}))
        return None

    api.script = script
    timing = Timing(retry_first=0.1, retry_most=3.0)
    async with running(client, timing):
        if mode == "streaming":
            api.close_watches()
        await asyncio.sleep(2)
        # 0.1 + 0.2 + 0.4 + 0.8 ... of which half is certain: some six in two seconds.
        assert api.counts["watch"] <= 9
        await until(lambda: api.counts["watch"] >= 3)


async def test_f9_a_lost_event_is_repaired_by_the_resync(api: FakeApi, client: Client, mode: str) -> None:
    for name in "abcdef":
        api.put(name)
    timing = Timing(resync=0.5, retry_first=0.01, retry_most=0.1)
    async with running(client, timing) as seen:
        await until(lambda: seen.reflector.healthy)
        api.put("a", announce=False, x="lost")
        api.delete("b", announce=False)
        # The watch goes on as if nothing had happened.
        api.put("c", x="1")
        await until(lambda: seen.data("c") == {"x": "1"})
        assert seen.data("a") == {}
        async with asyncio.timeout(20):
            while "b" in seen.names:
                api.bookmark()
                await asyncio.sleep(0.02)
        assert seen.data("a") == {"x": "lost"}
        assert seen.evidence("b") is Evidence.LIST


async def test_f11_a_list_that_breaks_in_the_middle_changes_nothing(api: FakeApi, client: Client) -> None:
    api.streaming = False
    for number in range(30):
        api.put(f"n{number}")
    timing = Timing(retry_first=0.01, retry_most=0.1, page=10)
    async with running(client, timing) as seen:
        await until(lambda: seen.reflector.healthy)
        failing = True
        failed = 0

        async def script(request: web.Request) -> web.Response | None:
            nonlocal failed
            if failing and request.query.get("continue") == "20":
                failed += 1
                return (failure(500), failure(410, "Expired"), web.Response(body=b'{"kind":'))[failed % 3]
            return None

        api.script = script
        seen.changes.clear()
        api.oldest = api.revision + 1
        api.revision += 1
        api.close_watches()
        await until(lambda: failed > 6)
        assert len(seen.names) == 30
        assert seen.changes == []
        failing = False
        await until(lambda: seen.reflector.healthy)
        assert seen.changes == []


async def test_f11_a_streaming_list_without_its_end_counts_for_nothing(api: FakeApi, client: Client) -> None:
    for name in "abcdef":
        api.put(name)
    async with running(client) as seen:
        await until(lambda: seen.reflector.healthy)

        async def script(request: web.Request) -> web.Response | None:
            if "sendInitialEvents" in request.query:
                return web.Response(body=event("ADDED", api.objects["a"]))
            return None

        api.script = script
        seen.changes.clear()
        api.oldest = api.revision = api.revision + 1
        api.close_watches()
        # After two of these the list is read in pages.
        await until(lambda: api.counts["list"] == 1)
        await until(lambda: seen.reflector.healthy)
        assert seen.changes == []
        assert len(seen.names) == 6


async def test_f12_an_empty_list_makes_suspects_only(api: FakeApi, client: Client, mode: str) -> None:
    for name in "abcdef":
        api.put(name)
    async with running(client) as seen:
        await until(lambda: seen.reflector.healthy)
        objects, api.objects = api.objects, {}
        api.oldest = api.revision = api.revision + 1
        api.close_watches()
        await until(lambda: not seen.names)
        assert {seen.evidence(name) for name in "abcdef"} == {Evidence.SUSPECT}
        api.objects = objects
        api.oldest = api.revision = api.revision + 1
        api.close_watches()
        await until(lambda: len(seen.names) == 6)


async def test_f13_a_list_from_the_past_is_not_taken(api: FakeApi, client: Client) -> None:
    api.streaming = False
    api.put("a", x="new")
    api.put("b")
    async with running(client) as seen:
        await until(lambda: seen.reflector.healthy)
        stale = 0

        async def script(request: web.Request) -> web.Response | None:
            nonlocal stale
            if "watch" not in request.query and stale < 3:
                stale += 1
                return web.json_response({"kind": "ConfigMapList", "metadata": {"resourceVersion": "90"}, "items": []})
            return None

        api.script = script
        seen.changes.clear()
        api.oldest = api.revision = api.revision + 1
        api.close_watches()
        await until(lambda: stale == 3 and seen.reflector.healthy)
        assert seen.changes == []
        assert seen.names == {"a", "b"}


async def test_server_data_that_went_back_is_believed_in_the_end(api: FakeApi, client: Client) -> None:
    api.streaming = False
    for name in "abc":
        api.put(name)
    async with running(client) as seen:
        await until(lambda: seen.reflector.healthy)
        # Restored from a backup: less data, smaller revisions.
        api.revision, api.objects, api.history = 10, {}, []
        api.put("a", x="restored")
        api.oldest = 0

        async def script(request: web.Request) -> web.Response | None:
            if "watch" in request.query and int(request.query["resourceVersion"]) > api.revision:
                details = {"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]}
                return web.Response(
                    status=504, body=fakeapi.status(504, "Timeout", details=details), content_type="application/json"
                )
            return None

        api.script = script
        api.close_watches()
        await until(lambda: seen.data("a") == {"x": "restored"})
        assert seen.names == {"a"}
        assert seen.evidence("b") is Evidence.SUSPECT


async def test_f16_forbidden_is_tried_slowly_and_recovers(api: FakeApi, client: Client, mode: str) -> None:
    api.put("a")
    denied = True

    async def script(request: web.Request) -> web.Response | None:
        return failure(403, "Forbidden") if denied else None

    api.script = script
    timing = Timing(retry_first=0.001, retry_most=0.001, refused_first=0.2, refused_most=1.0)
    async with running(client, timing, synced=False) as seen:
        await until(lambda: seen.reflector.last_error is not None)
        error = seen.reflector.last_error
        assert isinstance(error, ApiError)
        assert error.forbidden
        assert not seen.reflector.healthy
        await asyncio.sleep(0.5)
        assert len(api.requests) <= 5
        denied = False
        await until(lambda: seen.reflector.healthy)
        assert seen.reflector.last_error is None
        # Taken away again while watching: nothing is deleted.
        denied = True
        api.close_watches()
        await until(lambda: seen.reflector.last_error is not None)
        assert seen.names == {"a"}


async def test_f15_retry_after_is_honoured(api: FakeApi, client: Client) -> None:
    times: list[float] = []

    async def script(request: web.Request) -> web.Response | None:
        times.append(time.monotonic())
        return failure(429, "TooManyRequests", headers={"Retry-After": "1"}) if len(times) == 1 else None

    api.script = script
    async with running(client):
        assert times[1] - times[0] >= 1


FAULTS: dict[str, Callable[[], web.Response]] = {
    "500": lambda: failure(500),
    "html": lambda: web.Response(body=b"<html></html>\n"),
    "truncated": lambda: web.Response(body=b'{"type":"ADDED","obj'),
    "wrong kind": lambda: web.json_response({"kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": []}),
    "unknown event": lambda: web.Response(body=event("SURPRISE", {"metadata": {"name": "x"}})),
    "no metadata": lambda: web.Response(body=event("ADDED", {"spec": {}})[:-3] + b"\xff}}\n"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_f17_faults_leave_the_store_alone_and_pass(api: FakeApi, client: Client, mode: str, fault: str) -> None:
    api.put("a")
    async with running(client) as seen:
        await until(lambda: seen.reflector.healthy)
        broken = True

        async def script(request: web.Request) -> web.Response | None:
            return FAULTS[fault]() if broken else None

        api.script = script
        api.close_watches()
        asked = len(api.requests)
        await until(lambda: len(api.requests) > asked + 4)
        assert seen.names == {"a"}
        broken = False
        api.put("b")
        await until(lambda: "b" in seen.names and seen.reflector.healthy)


async def test_f1_a_server_that_is_away_is_found_again(client: Client, api: FakeApi) -> None:
    api.put("a")
    away = True

    async def script(request: web.Request) -> web.Response | None:
        if away:
            assert request.transport is not None
            request.transport.abort()
        return None

    api.script = script
    async with running(client, synced=False) as seen:
        await until(lambda: len(api.requests) > 5)
        assert not seen.reflector.synced.is_set()
        away = False
        await until(lambda: seen.names == {"a"})


async def test_a_dead_link_leads_to_a_new_watch(api: FakeApi, client: Client, mode: str) -> None:
    api.put("a")
    timing = Timing(inactivity=0.2, retry_first=0.01, retry_most=0.1)
    async with running(client, timing) as seen:
        watches = api.counts["watch"]
        await until(lambda: api.counts["watch"] > watches + 1)
        api.put("b")
        await until(lambda: "b" in seen.names)


async def test_silence_is_no_fault_of_what_gets_no_bookmarks(api: FakeApi, client: Client, mode: str) -> None:
    """Events, for one: a quiet namespace would be warned of each 90 s for ever."""
    api.put("a")
    timing = Timing(inactivity=0.1, retry_first=0.01, retry_most=0.1)
    with structlog.testing.capture_logs() as logs:
        async with running(client, timing, resource=replace(CONFIG_MAPS, bookmarks=False)) as seen:
            await until(lambda: seen.reflector.healthy)
            watches = api.counts["watch"]
            await until(lambda: seen.reflector.last_contact_age > 0.5)
            assert seen.reflector.healthy
            assert api.counts["watch"] == watches
            # Nobody told of what came in between, and the position may be too old to go on from.
            api.put("b", announce=False)
            api.oldest = api.revision
            api.close_watches()
            await until(lambda: "b" in seen.names)
    assert not [entry for entry in logs if entry["log_level"] == "warning"]


@pytest.mark.parametrize("kind", ["initial", "event"])
async def test_f37_a_poisoned_object_is_left_as_it_was_and_others_go_on(
    api: FakeApi, client: Client, mode: str, kind: str, registry: CollectorRegistry
) -> None:
    api.put("p", x="good")
    for name in "abcdef":
        api.put(name)
    if kind == "initial":
        api.objects["p"]["metadata"]["labels"] = {"x": 1}
    with structlog.testing.capture_logs() as logs:
        async with running(client) as seen:
            if kind == "event":
                api.put("p", announce=False, x="bad")["metadata"]["labels"] = {"x": 1}
                api.say(event("MODIFIED", api.objects["p"]))
            api.put("z")
            await until(lambda: "z" in seen.names)
            if kind == "event":
                assert seen.data("p") == {"x": "good"}
                # A list has it too, and still it is not taken for deleted.
                api.oldest = api.revision = api.revision + 1
                api.close_watches()
                await until(lambda: seen.reflector._cause == "expired" and seen.reflector.healthy)
                assert seen.data("p") == {"x": "good"}
    assert any(entry["event"] == "undecodable_object" and entry["object"] == "ns/p" for entry in logs)
    labels = {"client": "test", "resource": "configmaps"}
    assert registry.get_sample_value("isthmus_undecodable_objects_total", labels)


async def test_f37_an_exception_of_on_change_does_not_stop_the_others(api: FakeApi, client: Client) -> None:
    for name in "ab":
        api.put(name)
    told: list[str] = []

    def on_change(change: Change[ConfigMap]) -> None:
        told.append(change.key[1])
        raise ValueError("a bug")

    reflector = Reflector(client, CONFIG_MAPS, decode=ConfigMap, namespace="ns", on_change=on_change)
    with structlog.testing.capture_logs() as logs:
        task = asyncio.create_task(reflector.run())
        await until(reflector.synced.is_set)
        api.put("c")
        await until(lambda: "c" in told)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [entry["object"] for entry in logs if entry["event"] == "on_change_failed"] == ["ns/a", "ns/b", "ns/c"]


async def test_metrics_say_how_the_watch_is(api: FakeApi, client: Client, registry: CollectorRegistry) -> None:
    api.put("a")
    labels = {"client": "test", "resource": "configmaps", "scope": "ns"}
    async with running(client) as seen:
        await until(lambda: seen.reflector.healthy)
        age = registry.get_sample_value("isthmus_watch_last_contact_age_seconds", labels)
        assert age is not None
        assert age < 20
        assert registry.get_sample_value("isthmus_store_objects", labels) == 1
        relists = registry.get_sample_value(
            "isthmus_relists_total", {"client": "test", "resource": "configmaps", "cause": "start"}
        )
        assert relists == 1
    assert registry.get_sample_value("isthmus_store_objects", labels) is None
