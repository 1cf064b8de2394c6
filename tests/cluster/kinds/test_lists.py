"""Lists that lie: nothing is removed or made on their word."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from deploy import stack
from deploy.lab.lab import Lab
from deploy.lab.proxy import rules
from deploy.lab.proxy.server import ApiProxy
from kube import config
from kube.client import Client
from kube.resources import SERVICES
from reflection.kinds.service import SERVICE
from tests.cluster.kinds.cases import service
from tests.cluster.kinds.conftest import USER
from tests.cluster.kinds.world import CONSUMER_ID, World

NAMES = ("a", "b", "c")
STREAMING = "sendInitialEvents=true"


@pytest.fixture
async def consumer_proxy(lab: Lab) -> AsyncIterator[ApiProxy]:
    async with ApiProxy.running(lab.consumer, user=USER, groups=("system:nodes",)) as made:
        yield made


@pytest.fixture
async def provider_proxy(lab: Lab) -> AsyncIterator[ApiProxy]:
    async with ApiProxy.running(lab.provider, user=stack.provider_user(CONSUMER_ID)) as made:
        yield made


@pytest.fixture
async def spoiled(world: World, consumer_proxy: ApiProxy, provider_proxy: ApiProxy) -> AsyncIterator[World]:
    """The world seen through proxies."""
    consumer = await config.load(kubeconfig=str(consumer_proxy.kubeconfig))
    provider = await config.load(kubeconfig=str(provider_proxy.kubeconfig))
    async with Client.connect(consumer, name="consumer") as near, Client.connect(provider, name="provider") as far:
        yield replace(world, consumer=near, provider=far)


def list_again(proxy: ApiProxy, path: str) -> None:
    """Make watches begin anew with a paged list."""
    proxy.add(rules.status(400, "BadRequest", "no streaming lists here"), path=path, query=STREAMING)
    proxy.inject(rules.error_event(), path=path.rstrip("$"))


async def test_f12_an_empty_list_of_the_consumer_removes_nothing(spoiled: World, consumer_proxy: ApiProxy) -> None:
    path = f"/{spoiled.namespace}/services$"
    async with spoiled.reflecting(SERVICE):
        for name in NAMES:
            await spoiled.create(SERVICES, service(name))
        for name in NAMES:
            await spoiled.until_remote(SERVICES, name)
        before = await spoiled.revisions(SERVICES)
        since = len(consumer_proxy.records)
        consumer_proxy.add(rules.empty_list(), path=path, verb="list")
        list_again(consumer_proxy, path)

        async def doubted() -> bool:
            asked = [record.request.path for record in consumer_proxy.records[since:] if record.request.verb == "get"]
            return all(any(found.endswith(f"/services/{name}") for found in asked) for name in NAMES)

        await spoiled.until(doubted, what="the API server to be asked about each")
        assert await spoiled.revisions(SERVICES) == before
        consumer_proxy.clear()
        list_again(consumer_proxy, path)
        await spoiled.delete(SERVICES, "a")
        await spoiled.until_gone(SERVICES, "a")
        after = await spoiled.revisions(SERVICES)
        assert after == {name: before[name] for name in ("b", "c")}


async def test_f12_an_empty_list_of_the_provider_writes_nothing(spoiled: World, provider_proxy: ApiProxy) -> None:
    path = f"/{spoiled.remote_namespace}/services$"
    async with spoiled.reflecting(SERVICE):
        for name in NAMES:
            await spoiled.create(SERVICES, service(name))
        for name in NAMES:
            await spoiled.until_remote(SERVICES, name)
        before = await spoiled.revisions(SERVICES)
        since = len(provider_proxy.records)
        provider_proxy.add(rules.empty_list(), path=path, verb="list")
        list_again(provider_proxy, path)

        async def looked() -> bool:
            asked = [record.request.path for record in provider_proxy.records[since:] if record.request.verb == "get"]
            return all(any(found.endswith(f"/services/{name}") for found in asked) for name in NAMES)

        await spoiled.until(looked, what="each to be looked at")
        provider_proxy.clear()
        list_again(provider_proxy, path)
        await spoiled.create(SERVICES, service("last"))
        await spoiled.until_remote(SERVICES, "last")
        after = await spoiled.revisions(SERVICES)
        assert {name: after[name] for name in NAMES} == before
