import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from kube.client import Client, PatchType
from kube.config import Credentials
from kube.errors import ApiError, ProtocolError, TransportError
from kube.kubeconfig import Material
from kube.objects import ConfigMap, Metadata, Object
from kube.resources import CONFIG_MAPS, EVENTS, LEASES, PODS, Resource
from tests.unit.kube import fakeapi, rawserver
from tests.unit.kube.fakeapi import FakeApi, Script, failure

GetMap = Callable[[Client], Awaitable[Any]]


async def _get(client: Client) -> Any:
    return await client.get(CONFIG_MAPS, namespace="ns", name="a")


async def test_get_as_dict_and_as_struct(api: FakeApi, client: Client) -> None:
    api.put("a", x="1")
    assert (await _get(client))["data"] == {"x": "1"}
    assert (await client.get(CONFIG_MAPS, namespace="ns", name="a", decode=ConfigMap)).data == {"x": "1"}
    with pytest.raises(ApiError) as caught:
        await client.get(CONFIG_MAPS, namespace="ns", name="b")
    assert caught.value.not_found


async def test_list_reads_all_pages(api: FakeApi, client: Client) -> None:
    for number in range(7):
        api.put(f"n{number}")
    listing = await client.list(CONFIG_MAPS, namespace="ns", decode=ConfigMap, page=3)
    assert [item.metadata.name for item in listing.items] == [f"n{number}" for number in range(7)]
    assert listing.resource_version == str(api.revision)
    assert api.counts["list"] == 3
    assert all("resourceVersion" not in request.query for request in api.requests)


GADGETS = Resource("example.org", "v1", "gadgets", "Gadget")
OTHERS = {"kind": "APIResourceList", "resources": [{"name": "widgets"}]}
GROUPS = {"kind": "APIGroupList", "groups": [{"name": "example.org", "versions": [{"version": "v2"}]}]}


def documents(found: dict[str, object]) -> Script:
    """A server that has these besides."""

    async def answer(request: web.Request) -> web.Response | None:
        return web.json_response(found[request.path]) if request.path in found else None

    return answer


@pytest.mark.parametrize("discovered", [{"/apis/example.org/v1": OTHERS}, {"/apis": GROUPS}], ids=["kind", "version"])
async def test_a_resource_that_is_not_served_is_an_error_or_none_as_asked(
    api: FakeApi, client: Client, discovered: dict[str, object]
) -> None:
    api.script = documents(discovered)
    with pytest.raises(ApiError) as caught:
        await client.list(GADGETS, namespace="ns")
    assert caught.value.not_found
    assert (await client.list(GADGETS, namespace="ns", missing_ok=True)).items == []


@pytest.mark.parametrize(
    "discovered",
    [
        {},
        {"/apis/example.org/v1": {"kind": "APIResourceList", "resources": [{"name": "gadgets"}]}},
        {"/apis": {"kind": "APIGroupList", "groups": [{"name": "example.org", "versions": [{"version": "v1"}]}]}},
        {"/apis/example.org/v1": {"kind": "Page"}},
        {"/apis": {}},
    ],
    ids=["nothing but 404", "kind", "version", "nonsense", "more nonsense"],
)
async def test_f17_a_404_that_discovery_does_not_confirm_is_no_empty_list(
    api: FakeApi, client: Client, discovered: dict[str, object]
) -> None:
    api.script = documents(discovered)
    with pytest.raises(ApiError):
        await client.list(GADGETS, namespace="ns", missing_ok=True)


async def test_f11_a_list_that_expires_between_pages_begins_again(api: FakeApi, client: Client) -> None:
    for number in range(4):
        api.put(f"n{number}")
    expired = 0

    async def script(request: web.Request) -> web.Response | None:
        nonlocal expired
        if "continue" in request.query and expired == 0:
            expired += 1
            api.delete("n0")
            return failure(410, "Expired")
        return None

    api.script = script
    listing = await client.list(CONFIG_MAPS, namespace="ns", decode=ConfigMap, page=2)
    assert [item.metadata.name for item in listing.items] == ["n1", "n2", "n3"]


async def test_f11_never_a_part_of_a_list(api: FakeApi, client: Client) -> None:
    for number in range(4):
        api.put(f"n{number}")

    async def script(request: web.Request) -> web.Response | None:
        return failure(410, "Expired") if "continue" in request.query else None

    api.script = script
    with pytest.raises(ProtocolError, match="continue token"):
        await client.list(CONFIG_MAPS, namespace="ns", page=2)


BAD_BODIES = {
    "html": b"<html><body>Bad gateway</body></html>",
    "truncated": b'{"kind":"ConfigMap","metadata":{"name":"a"',
    "wrong kind": b'{"kind":"Pod","metadata":{"name":"a"}}',
    "status": b'{"kind":"Status","status":"Failure"}',
    "wrong shape": b'{"kind":"ConfigMap","metadata":[]}',
    "not an object": b"[]",
    "empty": b"",
    "bad utf-8": b'{"kind":"ConfigMap","metadata":{"name":"\xff"}}',
    "deep": b'{"kind":"ConfigMap","data":' + b"[" * 100_000,
}


@pytest.mark.parametrize("name", BAD_BODIES)
async def test_f17_a_200_that_is_no_such_object_is_a_typed_error(api: FakeApi, client: Client, name: str) -> None:
    async def script(request: web.Request) -> web.Response:
        return web.Response(body=BAD_BODIES[name])

    api.script = script
    with pytest.raises(ProtocolError) as caught:
        await client.get(CONFIG_MAPS, namespace="ns", name="a", decode=ConfigMap)
    assert "Bad gateway" not in str(caught.value)
    with pytest.raises(ProtocolError):
        await client.list(CONFIG_MAPS, namespace="ns", decode=ConfigMap)


async def test_f37_one_undecodable_object_does_not_hide_the_others(api: FakeApi, client: Client) -> None:
    api.put("a")
    api.put("b")["metadata"]["labels"] = {"x": 1}
    api.put("c")
    listing = await client.list(CONFIG_MAPS, namespace="ns", decode=ConfigMap)
    assert [item.metadata.name for item in listing.items] == ["a", "c"]
    assert [found.name for found in listing.undecodable] == ["b"]


async def test_reads_are_retried_writes_are_not(api: FakeApi, client: Client) -> None:
    seen: list[str] = []

    async def script(request: web.Request) -> web.Response | None:
        seen.append(request.method)
        return failure(503) if len(seen) < 3 else None

    api.script = script
    api.put("a")
    await _get(client)
    assert seen == ["GET"] * 3
    seen.clear()
    with pytest.raises(ApiError):
        await client.create(CONFIG_MAPS, {}, namespace="ns")
    assert seen == ["POST"]


async def test_f15_retry_after_is_waited_for(api: FakeApi, client: Client) -> None:
    times: list[float] = []

    async def script(request: web.Request) -> web.Response | None:
        times.append(time.monotonic())
        if len(times) == 1:
            return failure(429, "TooManyRequests", headers={"Retry-After": "1"})
        return web.json_response({"kind": "ConfigMap", "metadata": {"name": "a"}}, status=201)

    api.script = script
    # A 429 was not executed: this is the one answer after which a write is sent again.
    await client.create(CONFIG_MAPS, {}, namespace="ns")
    assert len(times) == 2
    assert times[1] - times[0] >= 1.0


async def test_f15_a_long_retry_after_is_the_callers_business(api: FakeApi, client: Client) -> None:
    async def script(request: web.Request) -> web.Response:
        return failure(429, "TooManyRequests", headers={"Retry-After": "60"})

    api.script = script
    with pytest.raises(ApiError) as caught:
        await _get(client)
    assert caught.value.retry_after == 60
    assert len(api.requests) == 1


async def test_f15_others_wait_too_but_heartbeats_do_not(api: FakeApi, client: Client) -> None:
    async def script(request: web.Request) -> web.Response | None:
        if request.path.endswith("/a"):
            return failure(429, "TooManyRequests", headers={"Retry-After": "20"})
        return web.json_response({"kind": "Lease", "metadata": {"name": "l"}})

    api.script = script
    with pytest.raises(ApiError):
        await _get(client)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await client.get(CONFIG_MAPS, namespace="ns", name="other")
    async with asyncio.timeout(20):
        await client.get(LEASES, namespace="ns", name="l")


async def test_401_reads_credentials_anew_once(api: FakeApi) -> None:
    tokens = iter(["old", "new", "newer"])
    seen: list[str] = []

    async def script(request: web.Request) -> web.Response | None:
        seen.append(request.headers["Authorization"])
        return None if seen[-1] == "Bearer new" else failure(401, "Unauthorized")

    api.script = script
    api.put("a")
    made = Credentials(lambda: Material(server=api.url, server_name=None, ca=None, token=next(tokens)))
    async with Client.connect(made, name="t") as client:
        await _get(client)
        assert seen == ["Bearer old", "Bearer new"]
        await _get(client)
        assert seen[2:] == ["Bearer new"]


async def test_401_that_stays_is_an_error_after_two_requests(api: FakeApi, client: Client) -> None:
    async def script(request: web.Request) -> web.Response:
        return failure(401, "Unauthorized")

    api.script = script
    with pytest.raises(ApiError) as caught:
        await client.create(CONFIG_MAPS, {}, namespace="ns")
    assert caught.value.unauthorized
    assert len(api.requests) == 2


async def test_a31_redirects_are_not_followed_and_cookies_not_kept(api: FakeApi, client: Client) -> None:
    async def script(request: web.Request) -> web.Response:
        headers = {"Location": f"{api.url}/elsewhere", "Set-Cookie": "a=b; Path=/"}
        return web.Response(status=307, headers=headers)

    api.script = script
    with pytest.raises(ProtocolError, match="redirect"):
        await _get(client)
    async with client.stream("GET", "/logs", params=[]) as answer:
        assert answer.status == 307
    assert [request.path for request in api.requests] == [f"{fakeapi.PATH}/a", "/logs"]
    assert "Cookie" not in api.requests[1].headers


async def test_a18_compressed_answers_are_not_taken(api: FakeApi, client: Client) -> None:
    async def script(request: web.Request) -> web.Response:
        return web.Response(body=b"\x1f\x8b" + b"0" * 100, headers={"Content-Encoding": "gzip"})

    api.script = script
    with pytest.raises(ProtocolError, match="compressed"):
        await _get(client)
    assert api.requests[0].headers["Accept-Encoding"] == "identity"


async def test_a_lost_answer_says_that_the_request_was_sent() -> None:
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"
    async with rawserver.serving(cut) as server, Client.connect(fakeapi.credentials(server.url), name="t") as client:
        with pytest.raises(TransportError) as caught:
            await client.create(CONFIG_MAPS, {}, namespace="ns")
        assert caught.value.sent
        assert len(server.heads) == 1
    async with Client.connect(fakeapi.credentials(server.url), name="t") as client:
        with pytest.raises(TransportError) as refused:
            await client.create(CONFIG_MAPS, {}, namespace="ns")
        assert not refused.value.sent


async def test_a_server_that_says_nothing_is_given_up_after_the_timeout() -> None:
    async def silent(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with rawserver.serving(silent) as server, Client.connect(fakeapi.credentials(server.url), name="t") as client:
        with pytest.raises(TransportError, match="timed out"):
            await client.raw("POST", "/x", timeout=0.1)


async def test_warnings_of_a_good_answer_are_told(api: FakeApi, client: Client) -> None:
    async def script(_request: web.Request) -> web.Response:
        answer = web.json_response({"kind": "Pod", "metadata": {}})
        answer.headers.add("Warning", r'299 - "unknown field \"spec.x\""')
        answer.headers.add("Warning", '299 kube "deprecated"')
        return answer

    api.script = script
    warnings: list[str] = []
    await client.create(PODS, {}, namespace="ns", on_warning=warnings.append)
    assert warnings == ['unknown field "spec.x"', "deprecated"]
    await client.create(PODS, {}, namespace="ns")


async def test_bodies_and_parameters_of_writes(api: FakeApi, client: Client) -> None:
    bodies: list[bytes] = []

    async def script(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        return web.json_response({"kind": "Status" if request.method == "DELETE" else "Pod", "metadata": {}})

    api.script = script
    pod = Object(metadata=Metadata(name="p"), spec=msgspec.Raw(b'{"x": [1]}'))
    await client.create(PODS, pod, namespace="ns", dry_run=True)
    await client.replace(PODS, b'{ "raw" : 1 }', name="p", namespace="ns", subresource="status")
    await client.apply(PODS, {}, name="p", namespace="ns", field_manager="me")
    await client.patch(PODS, [{"op": "test"}], name="p", namespace="ns", kind=PatchType.JSON)
    await client.patch(PODS, {"a": None}, name="p", namespace="ns")
    await client.delete(
        PODS, name="p", namespace="ns", uid="u", resource_version="5", grace_period_seconds=0, propagation="Orphan"
    )
    seen = [(r.method, r.path_qs, r.headers["Content-Type"]) for r in api.requests]
    assert seen == [
        ("POST", "/api/v1/namespaces/ns/pods?dryRun=All", "application/json"),
        ("PUT", "/api/v1/namespaces/ns/pods/p/status", "application/json"),
        ("PATCH", "/api/v1/namespaces/ns/pods/p?fieldManager=me&force=true", "application/apply-patch+yaml"),
        ("PATCH", "/api/v1/namespaces/ns/pods/p", "application/json-patch+json"),
        ("PATCH", "/api/v1/namespaces/ns/pods/p", "application/merge-patch+json"),
        ("DELETE", "/api/v1/namespaces/ns/pods/p", "application/json"),
    ]
    assert bodies[0] == b'{"metadata":{"name":"p"},"spec":{"x": [1]}}'
    assert bodies[1] == b'{ "raw" : 1 }'
    assert json.loads(bodies[5]) == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": {"uid": "u", "resourceVersion": "5"},
        "gracePeriodSeconds": 0,
        "propagationPolicy": "Orphan",
    }


async def test_stream_gives_any_status_and_passes_bytes_as_they_come(api: FakeApi, client: Client) -> None:
    more = asyncio.Event()

    async def script(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=206)
        await response.prepare(request)
        await response.write(b"first")
        await more.wait()
        await response.write(b"second")
        return response

    api.script = script
    async with client.stream("GET", "/logs", params=[("follow", "true"), ("x", "a b&c")]) as answer:
        chunks = answer.iter_any()
        assert answer.status == 206
        assert await anext(chunks) == b"first"
        more.set()
        assert await anext(chunks) == b"second"
    assert dict(api.requests[0].query) == {"follow": "true", "x": "a b&c"}


async def test_stream_read_is_bounded(api: FakeApi, client: Client) -> None:
    async def script(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * 1_000_000)

    api.script = script
    async with client.stream("GET", "/logs", params=[]) as answer:
        assert await answer.read(10) == b"x" * 10


@pytest.mark.parametrize("path", ["x", "/a?b", "/a#b", "/a b", "/a\r\nX: y", "/é", "https://elsewhere/"])
async def test_a11_paths_are_checked(client: Client, api: FakeApi, path: str) -> None:
    with pytest.raises(ValueError, match="absolute path"):
        await client.raw("GET", path)
    assert api.requests == []


async def test_requests_are_counted(api: FakeApi, client: Client, registry: CollectorRegistry) -> None:
    api.put("a")
    await _get(client)
    with pytest.raises(ApiError):
        await client.get(EVENTS, namespace="ns", name="a-not-there")

    def count(resource: str, code: str) -> float | None:
        labels = {"client": "test", "verb": "get", "resource": resource, "code": code}
        return registry.get_sample_value("isthmus_client_requests_total", labels)

    assert (count("configmaps", "200"), count("events", "404")) == (1, 1)
    # A second client of the process shares the registry.
    async with Client.connect(fakeapi.credentials(api.url), name="other", registry=registry):
        pass


async def test_a_large_list_does_not_block_the_loop(api: FakeApi, client: Client) -> None:
    filler = {f"key-{n}": "v" * 60 for n in range(80)}
    for number in range(1500):
        api.put(f"n{number}", announce=False, **filler)
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - before)

    bodies = {
        begin: json.dumps(
            {
                "kind": "ConfigMapList",
                "metadata": {"resourceVersion": "9"} | ({"continue": str(begin + 500)} if begin < 1000 else {}),
                "items": list(api.objects.values())[begin : begin + 500],
            }
        ).encode()
        for begin in (0, 500, 1000)
    }

    async def script(request: web.Request) -> web.Response:
        return web.Response(body=bodies[int(request.query.get("continue", "0"))])

    api.script = script
    async with asyncio.TaskGroup() as group:
        task = group.create_task(beat())
        listing = await client.list(CONFIG_MAPS, namespace="ns", decode=Object)
        task.cancel()
    assert len(listing.items) == 1500
    # In the loop's own CPU time, which a busy machine does not stretch: 500 objects of 6 kB take some 5 ms.
    assert longest < 0.2


@pytest.mark.parametrize(("method", "sent"), [("PUT", 1), ("DELETE", 1), ("POST", 1), ("GET", 2)])
async def test_f4_a_write_is_not_sent_again_when_a_kept_connection_breaks(method: str, sent: int) -> None:
    seen: list[bytes] = []

    async def answer(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(head)
        if method.encode() in head:
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        seen.append(await reader.readuntil(b"\r\n\r\n"))

    async with (
        rawserver.serving(answer) as server,
        Client.connect(fakeapi.credentials(server.url), name="t") as client,
    ):
        # The first leaves a connection in the pool, on which the second is lost.
        await client.raw("OPTIONS", "/first")
        with pytest.raises(TransportError) as lost:
            await client.raw(method, "/second")
        assert lost.value.sent
    seconds = [head for head in seen if b"/second" in head]
    assert seconds[0] == seen[1]
    assert len(seconds) >= sent
    assert len(seconds) == 1 or method == "GET"


async def test_a_disruption_budget_does_not_slow_the_client_down(api: FakeApi, client: Client) -> None:
    async def script(request: web.Request) -> web.Response | None:
        if request.path.endswith("/eviction"):
            return failure(429, "TooManyRequests", headers={"Retry-After": "20"})
        return None

    api.script = script
    api.put("a")
    with pytest.raises(ApiError):
        await client.create(PODS, {}, namespace="ns", name="p", subresource="eviction")
    async with asyncio.timeout(20):
        await _get(client)
