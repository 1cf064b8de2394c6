"""The API server's evil twin does what its rules say, and nothing when it has none."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from deploy.lab import binaries, kubeconfig
from deploy.lab.cluster import LabCluster
from deploy.lab.proxy import rules
from deploy.lab.proxy.server import ApiProxy

USER, GROUPS = "lab:proxied", ("system:masters",)


@pytest.fixture
async def proxy(consumer: LabCluster) -> AsyncIterator[ApiProxy]:
    async with ApiProxy.running(consumer, user=USER, groups=GROUPS) as made:
        yield made


@pytest.fixture
async def session(proxy: ApiProxy) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=kubeconfig.tls(proxy.kubeconfig))
    async with aiohttp.ClientSession(proxy.url, connector=connector) as made:
        yield made


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


async def events_of(response: aiohttp.ClientResponse, *, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(10):
        return [json.loads(await response.content.readline()) for _ in range(count)]


async def test_a_proxy_without_rules_is_the_api_server(proxy: ApiProxy, session: aiohttp.ClientSession) -> None:
    async with session.get("/api/v1/namespaces/default") as answer:
        assert answer.status == 200
        assert (await answer.json())["metadata"]["name"] == "default"
    async with session.get("/api/v1/namespaces/absent") as answer:
        assert answer.status == 404
    assert [(r.line, r.status, r.request.verb) for r in proxy.records] == [
        ("GET /api/v1/namespaces/default", 200, "get"),
        ("GET /api/v1/namespaces/absent", 404, "get"),
    ]


async def test_the_proxy_calls_as_its_user(session: aiohttp.ClientSession) -> None:
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    async with session.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", json=review) as answer:
        assert (await answer.json())["status"]["userInfo"]["username"] == USER


async def test_a_client_without_a_certificate_is_turned_away(proxy: ApiProxy) -> None:
    connector = aiohttp.TCPConnector(ssl=False)
    async with aiohttp.ClientSession(proxy.url, connector=connector) as stranger:
        with pytest.raises(aiohttp.ClientError):
            await stranger.get("/version")
    assert proxy.records == []


@pytest.mark.parametrize(
    ("answer", "status", "header"),
    [
        (rules.gone(), 410, None),
        (rules.too_many_requests(7), 429, ("Retry-After", "7")),
        (rules.server_error(), 500, None),
        (rules.html(), 200, ("Content-Type", "text/html")),
    ],
    ids=["gone", "throttled", "error", "html"],
)
async def test_a_rule_answers_as_often_as_it_says(
    proxy: ApiProxy,
    session: aiohttp.ClientSession,
    answer: rules.Answer,
    status: int,
    header: tuple[str, str] | None,
) -> None:
    rule = proxy.add(answer, path="/namespaces$", verb="list", times=1)
    async with session.get("/api/v1/namespaces/default") as other:
        assert other.status == 200
    async with session.get("/api/v1/namespaces") as spoiled:
        assert spoiled.status == status
        assert header is None or spoiled.headers[header[0]] == header[1]
    async with session.get("/api/v1/namespaces") as well:
        assert (await well.json())["kind"] == "NamespaceList"
    assert rule.hits == 1


async def test_an_empty_list_keeps_its_version(proxy: ApiProxy, session: aiohttp.ClientSession) -> None:
    proxy.add(rules.empty_list(), verb="list")
    async with session.get("/api/v1/namespaces") as answer:
        listing = await answer.json()
    assert listing["items"] == []
    assert int(listing["metadata"]["resourceVersion"]) > 0


async def test_truncated_json_is_whole_as_http(proxy: ApiProxy, session: aiohttp.ClientSession) -> None:
    proxy.add(rules.truncated(), path="/namespaces$")
    async with session.get("/api/v1/namespaces") as answer:
        text = await answer.text()
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        json.loads(text)


async def test_a_broken_body_ends_the_connection(proxy: ApiProxy, session: aiohttp.ClientSession) -> None:
    proxy.add(rules.BreakBody(), path="/namespaces$")
    with pytest.raises(aiohttp.ClientPayloadError):
        async with session.get("/api/v1/namespaces") as answer:
            await answer.read()


async def test_a_swallowed_write_was_carried_out(
    proxy: ApiProxy, session: aiohttp.ClientSession, consumer: LabCluster, namespace: str
) -> None:
    proxy.add(rules.Swallow(), verb="create", times=1)
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    with pytest.raises(aiohttp.ClientError):
        await session.post(path, json=config_map("swallowed"))
    assert await asyncio.to_thread(consumer.api.exists, f"{path}/swallowed")


async def test_a_refused_write_was_not(
    proxy: ApiProxy, session: aiohttp.ClientSession, consumer: LabCluster, namespace: str
) -> None:
    proxy.add(rules.Refuse(), verb="create")
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    with pytest.raises(aiohttp.ClientError):
        await session.post(path, json=config_map("refused"))
    assert not await asyncio.to_thread(consumer.api.exists, f"{path}/refused")


async def test_a_delay_comes_before_another_action(proxy: ApiProxy, session: aiohttp.ClientSession) -> None:
    proxy.add(rules.server_error(), path="/version")
    proxy.add(rules.Delay(0.3), path="/version")
    started = asyncio.get_running_loop().time()
    async with session.get("/version") as answer:
        assert answer.status == 500
    assert asyncio.get_running_loop().time() - started >= 0.3


async def test_watch_events_are_dropped_doubled_replayed_and_injected(
    proxy: ApiProxy, session: aiohttp.ClientSession, namespace: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    async with session.get(path) as listing:
        version = (await listing.json())["metadata"]["resourceVersion"]
    async with session.get(path, params={"watch": "1", "resourceVersion": version}) as watch:
        assert proxy.watches(path="/configmaps") == 1

        async def make(name: str) -> None:
            async with session.post(path, json=config_map(name)) as made:
                assert made.status == 201

        dropped = proxy.add(rules.dropped_events(of=lambda e: e["object"]["metadata"]["name"] == "a"), verb="watch")
        await make("a")
        await make("b")
        assert [e["object"]["metadata"]["name"] for e in await events_of(watch, count=1)] == ["b"]
        proxy.remove(dropped)
        doubled = proxy.add(rules.duplicated_events(), verb="watch")
        await make("c")
        assert [e["object"]["metadata"]["name"] for e in await events_of(watch, count=2)] == ["c", "c"]
        proxy.remove(doubled)
        proxy.add(rules.replayed_events(), verb="watch")
        await make("d")
        await make("e")
        assert [e["object"]["metadata"]["name"] for e in await events_of(watch, count=3)] == ["d", "e", "d"]
        assert proxy.inject(rules.error_event(), path="/configmaps") == 1
        (event,) = await events_of(watch, count=1)
        assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


async def test_an_open_watch_can_be_broken(proxy: ApiProxy, session: aiohttp.ClientSession) -> None:
    async with session.get("/api/v1/pods", params={"watch": "1"}) as watch:
        assert proxy.break_watches(path="/pods") == 1
        with pytest.raises(aiohttp.ClientError):
            async with asyncio.timeout(10):
                await watch.content.read()


async def test_kubectl_works_through_the_proxy(proxy: ApiProxy, namespace: str, tmp_path: Path) -> None:
    manifest = tmp_path / "map.json"
    manifest.write_text(json.dumps(config_map("by-kubectl", key="value")))

    async def kubectl(*arguments: str) -> str:
        argv = [str(binaries.kubectl()), f"--kubeconfig={proxy.kubeconfig}", "-n", namespace, *arguments]
        process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output, _ = await process.communicate()
        assert process.returncode == 0, output
        return output.decode()

    await kubectl("apply", "-f", str(manifest))
    assert await kubectl("get", "configmap", "by-kubectl", "-o", "jsonpath={.data.key}") == "value"
    await kubectl("delete", "configmap", "by-kubectl")
    assert {"create", "get", "delete"} <= {record.request.verb for record in proxy.records}
