import asyncio
import json
from contextlib import aclosing

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from kube import watch
from kube.client import Client
from kube.errors import ApiError, ProtocolError, TransportError
from kube.objects import ConfigMap
from kube.resources import CONFIG_MAPS
from kube.watch import LineSplitter, WatchEvent
from tests.unit.kube.fakeapi import FakeApi, event, failure


async def _collect(
    client: Client, *, count: int, since: int = 0, inactivity: float = 5.0
) -> list[WatchEvent[ConfigMap]]:
    found: list[WatchEvent[ConfigMap]] = []
    async with (
        asyncio.timeout(10),
        aclosing(
            watch.watch(
                client,
                CONFIG_MAPS,
                decode=ConfigMap,
                namespace="ns",
                resource_version=str(since),
                label_selector="a=b",
                inactivity=inactivity,
            )
        ) as events,
    ):
        async for each in events:
            found.append(each)
            if len(found) == count:
                break
    return found


@given(st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\n", b"x"))), st.data())
def test_lines_do_not_depend_on_chunks(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    splitter = LineSplitter()
    found: list[bytes] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += splitter.feed(stream[:size])
        stream = stream[size:]
    assert found == [line for line in lines if line.strip()]
    assert splitter.pending == 0


def test_a18_a_line_without_end_is_bounded() -> None:
    splitter = LineSplitter(limit=1000)
    for _ in range(10):
        splitter.feed(b"x" * 100)
    with pytest.raises(ProtocolError, match="larger than"):
        splitter.feed(b"x")


async def test_events_in_order_with_selectors_and_bookmarks(api: FakeApi, client: Client) -> None:
    api.put("a", x="1")
    api.put("a", x="2")
    api.bookmark()
    api.delete("a")
    found = await _collect(client, count=4)
    assert [each.type for each in found] == ["ADDED", "MODIFIED", "BOOKMARK", "DELETED"]
    assert found[1].object.data == {"x": "2"}
    query = api.requests[0].query
    assert query["labelSelector"] == "a=b"
    assert query["allowWatchBookmarks"] == "true"
    assert 290 <= int(query["timeoutSeconds"]) <= 580


async def test_an_object_of_3_mb_passes(api: FakeApi, client: Client) -> None:
    api.put("big", x="z" * 3_000_000)
    api.put("small")
    found = await _collect(client, count=2)
    assert len(found[0].object.data["x"]) == 3_000_000


async def test_f6_gone_by_event_and_by_status(api: FakeApi, client: Client) -> None:
    api.oldest = 1000
    with pytest.raises(ApiError) as by_event:
        await _collect(client, count=1)
    assert by_event.value.gone

    async def script(request: web.Request) -> web.Response:
        return failure(410, "Expired")

    api.script = script
    with pytest.raises(ApiError) as by_status:
        await _collect(client, count=1)
    assert by_status.value.gone


async def test_a_dead_link_is_noticed_and_life_rearms_the_timer(api: FakeApi, client: Client) -> None:
    task = asyncio.create_task(_collect(client, count=99, inactivity=0.3))
    for _ in range(5):
        await asyncio.sleep(0.1)
        api.bookmark()
    assert not task.done()
    with pytest.raises(TransportError, match="nothing heard"):
        await task


@pytest.mark.parametrize(
    "body",
    [
        b"<html>gateway</html>\n",
        event("ADDED", {"kind": "ConfigMap"})[:-10],
        b'{"type":"ADDED"}\n',
        b'{"type":"ERROR","object":{"kind":"Pod"}}\n',
    ],
)
async def test_f17_what_is_no_watch_stream_is_an_error(api: FakeApi, client: Client, body: bytes) -> None:
    async def script(request: web.Request) -> web.Response:
        return web.Response(body=body)

    api.script = script
    with pytest.raises(ProtocolError):
        await _collect(client, count=9)


async def test_f17_a_connection_cut_in_the_middle_is_an_error(api: FakeApi, client: Client) -> None:
    async def script(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(event("ADDED", {"kind": "ConfigMap", "metadata": {"name": "a"}}))
        assert request.transport is not None
        request.transport.abort()
        return response

    api.script = script
    with pytest.raises(TransportError):
        await _collect(client, count=9)


@pytest.mark.parametrize(
    "poison",
    [
        b'{"type":"ADDED","object":{"kind":"ConfigMap","metadata":{"name":"p","namespace":"ns"},"data":{"x":"\xff"}}}\n',
        b'{"type":"ADDED","object":{"kind":"ConfigMap","metadata":{"name":"p"},"data":{"x":"\\ud800"}}}\n',
        event("ADDED", {"kind": "ConfigMap", "metadata": {"name": "p", "labels": {"x": 1}}}),
        event(
            "ADDED", {"kind": "ConfigMap", "metadata": {"name": "p"}, "data": {"x": json.loads("[" * 50 + "]" * 50)}}
        ),
    ],
)
async def test_f37_a_poisoned_object_is_skipped(api: FakeApi, client: Client, poison: bytes) -> None:
    api.put("a")
    api.say(poison)
    api.put("b")
    found = await _collect(client, count=2)
    assert [each.object.metadata.name for each in found] == ["a", "b"]
