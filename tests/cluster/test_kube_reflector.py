"""The reflector against a real API server, whole and through the faulty proxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from deploy.lab.cluster import LabCluster
from deploy.lab.faults import API_SERVER, Faults
from deploy.lab.proxy import rules
from deploy.lab.proxy.server import ApiProxy
from kube import config
from kube.client import Client
from kube.objects import ConfigMap
from kube.reflector import Reflector, Timing
from kube.resources import CONFIG_MAPS
from kube.store import Change, Evidence

STREAMING = "sendInitialEvents=true"
QUICK = Timing(retry_first=0.05, retry_most=0.5, refused_first=0.05, refused_most=0.5)


@pytest.fixture
async def client(consumer: LabCluster) -> AsyncIterator[Client]:
    credentials = await config.load(kubeconfig=str(consumer.admin_kubeconfig))
    async with Client.connect(credentials, name="direct") as made:
        yield made


@pytest.fixture
async def proxy(consumer: LabCluster) -> AsyncIterator[ApiProxy]:
    async with ApiProxy.running(consumer, user="lab:kube", groups=("system:masters",)) as made:
        yield made


@pytest.fixture
async def proxied(proxy: ApiProxy) -> AsyncIterator[Client]:
    credentials = await config.load(kubeconfig=str(proxy.kubeconfig))
    async with Client.connect(credentials, name="proxied") as made:
        yield made


class Seen:
    """A running reflector of a namespace's ConfigMaps labelled ``test``, and what it told."""

    def __init__(self, client: Client, namespace: str, timing: Timing) -> None:
        self.namespace = namespace
        self.changes: list[Change[ConfigMap]] = []
        self.reflector = Reflector(
            client,
            CONFIG_MAPS,
            decode=ConfigMap,
            namespace=namespace,
            label_selector="test=yes",
            on_change=self.changes.append,
            timing=timing,
        )

    def data(self) -> dict[str, str]:
        return {item.metadata.name: item.data.get("x", "") for item in self.reflector.store.values()}

    def evidence(self, name: str) -> Evidence | None:
        grave = self.reflector.store.tombstone((self.namespace, name))
        return grave.evidence if grave else None


@asynccontextmanager
async def reflecting(client: Client, namespace: str, timing: Timing = QUICK) -> AsyncIterator[Seen]:
    seen = Seen(client, namespace, timing)
    task = asyncio.create_task(seen.reflector.run())
    try:
        await asyncio.wait_for(seen.reflector.synced.wait(), 20)
        yield seen
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object], *, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the condition has no event
            await asyncio.sleep(0.01)


async def put(client: Client, namespace: str, name: str, **data: str) -> ConfigMap:
    body: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"test": "yes"}},
        "data": data,
    }
    return await client.apply(CONFIG_MAPS, body, name=name, namespace=namespace, field_manager="test", decode=ConfigMap)


async def delete(client: Client, namespace: str, name: str) -> None:
    await client.delete(CONFIG_MAPS, name=name, namespace=namespace)


@pytest.mark.parametrize("mode", ["streaming", "paged"])
async def test_lists_and_follows(client: Client, proxied: Client, proxy: ApiProxy, namespace: str, mode: str) -> None:
    if mode == "paged":
        proxy.add(rules.status(422, "Invalid", "sendInitialEvents is forbidden"), query=STREAMING)
    for number in range(12):
        await put(client, namespace, f"n{number}", x="0")
    async with reflecting(proxied, namespace, Timing(page=5)) as seen:
        assert len(seen.data()) == 12
        assert all(change.initial for change in seen.changes)
        await put(client, namespace, "n1", x="1")
        await delete(client, namespace, "n2")
        await put(client, namespace, "new", x="2")
        await until(lambda: seen.data().get("new") == "2")
        assert seen.data()["n1"] == "1"
        assert seen.evidence("n2") is Evidence.WATCH
    lists = [record for record in proxy.records if record.request.verb == "list"]
    assert len(lists) == (0 if mode == "streaming" else 3)


async def test_an_object_of_a_megabyte(client: Client, namespace: str) -> None:
    async with reflecting(client, namespace) as seen:
        await put(client, namespace, "big", x="z" * 900_000)
        await until(lambda: len(seen.data().get("big", "")) == 900_000)


async def test_f1_the_api_server_restarts(client: Client, consumer: LabCluster, namespace: str, faults: Faults) -> None:
    for name in "abcdefgh":
        await put(client, namespace, name)
    async with reflecting(client, namespace) as seen:
        seen.changes.clear()
        await asyncio.to_thread(faults.stop, consumer.name, API_SERVER)
        await until(lambda: not seen.reflector.healthy)
        assert len(seen.data()) == 8
        await asyncio.to_thread(faults.restore, consumer.name, API_SERVER)
        await until(lambda: seen.reflector.healthy, seconds=5)
        await put(client, namespace, "i")
        await delete(client, namespace, "a")
        await until(lambda: "i" in seen.data() and "a" not in seen.data())
        assert {change.key[1] for change in seen.changes} == {"a", "i"}


async def test_f5_a_frozen_api_server_is_noticed(
    client: Client, consumer: LabCluster, namespace: str, faults: Faults
) -> None:
    await put(client, namespace, "a")
    async with reflecting(client, namespace, Timing(inactivity=2.0, retry_most=0.5)) as seen:
        await asyncio.to_thread(faults.pause, consumer.name, API_SERVER)
        await until(lambda: seen.reflector.last_error is not None, seconds=10)
        assert not seen.reflector.healthy
        assert set(seen.data()) == {"a"}
        await asyncio.to_thread(faults.restore, consumer.name, API_SERVER)
        await put(client, namespace, "b")
        # Bookmarks come once a minute, so with 2 s the watch is opened again and again, and still loses nothing.
        await until(lambda: "b" in seen.data(), seconds=60)


async def test_f6_gone(client: Client, proxied: Client, proxy: ApiProxy, namespace: str) -> None:
    for name in "abcdefgh":
        await put(client, namespace, name)
    async with reflecting(proxied, namespace) as seen:
        seen.changes.clear()
        deaf = proxy.add(rules.AlterEvents(lambda event: []), verb="watch")
        await delete(client, namespace, "a")
        await put(client, namespace, "b", x="1")
        await until(lambda: deaf.hits >= 2)
        assert seen.changes == []
        proxy.clear()
        proxy.add(rules.gone(), verb="watch", query="resourceVersion=[0-9]", times=2)
        await _break_watch(proxy, seen)
        await until(lambda: "a" not in seen.data() and seen.data().get("b") == "1")
        assert seen.evidence("a") is Evidence.LIST


async def _break_watch(proxy: ApiProxy, seen: Seen) -> None:
    """Close the watch that is open."""
    await until(lambda: seen.reflector.healthy and proxy.watches() > 0)
    proxy.break_watches()
    await until(lambda: not seen.reflector.healthy)


async def test_f7_a_watch_that_closes_at_once(client: Client, proxied: Client, proxy: ApiProxy, namespace: str) -> None:
    await put(client, namespace, "a")
    empty = rules.Answer(200, b"")
    rule = proxy.add(empty, verb="watch", query="resourceVersion=[0-9]")
    proxy.add(rules.status(422, "Invalid", "sendInitialEvents is forbidden"), query=STREAMING)
    async with reflecting(proxied, namespace, Timing()) as seen:
        await asyncio.sleep(3)
        assert rule.hits <= 12
        await until(lambda: rule.hits >= 3)
        proxy.clear()
        await put(client, namespace, "b")
        await until(lambda: "b" in seen.data())


async def test_f8_f9_replayed_and_lost_events(client: Client, proxied: Client, proxy: ApiProxy, namespace: str) -> None:
    history: list[rules.Event] = []

    def disorder(event: rules.Event) -> list[rules.Event]:
        history.append(event)
        lost = event["object"]["metadata"].get("name") == "lost"
        return [*([] if lost else [event]), *history[-4:-1], *([] if lost else [event])]

    for name in "abcdefgh":
        await put(client, namespace, name)
    async with reflecting(proxied, namespace, Timing(resync=4.0, retry_first=0.05)) as seen:
        proxy.add(rules.AlterEvents(disorder), verb="watch", query="resourceVersion=[0-9]|sendInitialEvents")
        for number in range(10):
            await put(client, namespace, "a", x=str(number))
            await put(client, namespace, "lost", x=str(number))
            if number % 3 == 0:
                await delete(client, namespace, "b")
                await put(client, namespace, "b", x=str(number))
        await until(lambda: seen.data().get("a") == "9" and seen.data().get("b") == "9")
        versions = [
            int(change.new.metadata.resource_version)
            for change in seen.changes
            if change.new is not None and change.key[1] == "a"
        ]
        assert versions == sorted(set(versions))
        proxy.clear()
        # The list that repairs comes within its period, or with the end of the watch the server was asked for.
        await until(lambda: seen.data().get("lost") == "9", seconds=30)


@pytest.mark.parametrize(
    "answer", [rules.server_error(), rules.html(), rules.too_many_requests(1)], ids=["500", "html", "429"]
)
async def test_f15_f17_answers_that_are_none(
    client: Client, proxied: Client, proxy: ApiProxy, namespace: str, answer: rules.Answer
) -> None:
    await put(client, namespace, "a")
    async with reflecting(proxied, namespace) as seen:
        rule = proxy.add(answer, path="/configmaps$", times=4)
        await _break_watch(proxy, seen)
        await until(lambda: rule.hits >= 2)
        assert set(seen.data()) == {"a"}
        await put(client, namespace, "b")
        await until(lambda: "b" in seen.data(), seconds=30)


async def test_f12_an_empty_list(client: Client, proxied: Client, proxy: ApiProxy, namespace: str) -> None:
    for name in "abcdef":
        await put(client, namespace, name)
    proxy.add(rules.status(422, "Invalid", "sendInitialEvents is forbidden"), query=STREAMING)
    async with reflecting(proxied, namespace) as seen:
        proxy.add(rules.empty_list(), verb="list", path="/configmaps$", times=1)
        proxy.add(rules.gone(), verb="watch", times=1)
        await _break_watch(proxy, seen)
        await until(lambda: not seen.data())
        assert {seen.evidence(name) for name in "abcdef"} == {Evidence.SUSPECT}
        proxy.add(rules.gone(), verb="watch", times=1)
        await _break_watch(proxy, seen)
        await until(lambda: len(seen.data()) == 6)


async def test_f5_a_half_open_link_is_noticed_in_15_seconds(
    client: Client, consumer: LabCluster, namespace: str, faults: Faults
) -> None:
    await put(client, namespace, "a")
    async with reflecting(client, namespace) as seen:
        # No packet passes and nothing is reset: only the kernel's probes can tell, after 12 s. Without them it would be
        # the watch's own silence, which is allowed for minutes; the bound leaves room for a busy machine.
        await asyncio.to_thread(faults.cut, "root", consumer.name)
        await until(lambda: not seen.reflector.healthy, seconds=30)
        assert set(seen.data()) == {"a"}
        await asyncio.to_thread(faults.mend, "root", consumer.name)
        await until(lambda: seen.reflector.healthy, seconds=15)
