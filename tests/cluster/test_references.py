"""Copies of what pods name, between two real API servers, where news come in an order that is seldom."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry

from deploy.lab.cluster import LabCluster
from deploy.lab.lab import Lab
from kube import config
from kube.client import Client
from kube.resources import PODS
from kube.store import Key
from reflection import ownership
from reflection.caches import CacheListeners, RemoteCaches
from reflection.copier import Kind
from reflection.references import References, RefKey
from tests import manifests as m
from tests.kubectl import Kubectl, admin, eventually

CONSUMER_ID, NODE = "references", "virtual-references"
LONG = 60.0


@dataclass
class World:
    """A namespace in both clusters, and the copies of a virtual node there."""

    here: Kubectl
    there: Kubectl
    references: References
    waiting: set[RefKey] = field(default_factory=set)
    """What pods name that were not reconciled yet."""
    asked: list[RefKey] = field(default_factory=list)
    woken: list[Key] = field(default_factory=list)

    def key(self, name: str) -> RefKey:
        return RefKey(Kind.CONFIG_MAP, self.here.namespace, name)

    def track(self, pod: str, name: str) -> bool:
        """Whether the pod may start."""
        return self.references.track(
            (self.here.namespace, pod), [self.key(name)], remote_namespace=self.there.namespace
        )

    def untrack(self, pod: str) -> None:
        self.references.untrack((self.here.namespace, pod))

    async def until(self, probe: Callable[[], object], *, what: str) -> None:
        await asyncio.to_thread(eventually, probe, what=what, timeout=LONG)


async def connected(cluster: LabCluster) -> AbstractAsyncContextManager[Client]:
    return Client.connect(await config.load(kubeconfig=str(cluster.admin_kubeconfig)), name=cluster.name)


@pytest.fixture
async def world(lab: Lab, namespace: str) -> AsyncIterator[World]:
    async with AsyncExitStack() as held:
        consumer = await held.enter_async_context(await connected(lab.consumer))
        provider = await held.enter_async_context(await connected(lab.provider))
        made: World

        def needed(ref: RefKey) -> bool:
            made.asked.append(ref)
            return ref in made.waiting

        caches = RemoteCaches(
            provider,
            remotes=PODS,
            node_selector=ownership.node_selector(NODE),
            consumer_selector=ownership.consumer_selector(CONSUMER_ID),
            listeners=CacheListeners(
                pod=lambda _namespace, _change: None,
                remote=lambda _namespace, _change: None,
                config_map=lambda ns, change: made.references.remote_changed(Kind.CONFIG_MAP, ns, change),
                secret=lambda ns, change: made.references.remote_changed(Kind.SECRET, ns, change),
                event=lambda _namespace, _change: None,
                synced=lambda _namespace: None,
            ),
            registry=CollectorRegistry(),
        )
        references = References(
            consumer,
            provider,
            caches,
            consumer_id=CONSUMER_ID,
            node_name=NODE,
            remote_name=lambda ref: ref.name,
            needed=needed,
            wake=lambda pod: made.woken.append(pod),  # noqa: PLW0108 - there is none yet
            namespace_lost=lambda _namespace: None,
            linger=3600.0,
            registry=CollectorRegistry(),
        )
        made = World(admin(lab.consumer, namespace), admin(lab.provider, namespace), references)
        group = await held.enter_async_context(asyncio.TaskGroup())
        running = [group.create_task(part.run()) for part in (caches, references)]
        yield made
        for task in running:
            task.cancel()


async def test_an_object_that_came_while_nobody_was_known_to_name_it_is_copied_for_the_next_pod(world: World) -> None:
    await asyncio.to_thread(world.here.create, m.config_map("fixed", data="first"))
    world.track("before", "fixed")
    await world.until(lambda: world.track("before", "fixed"), what="the first copy")
    await asyncio.to_thread(world.here.delete, "configmap", "fixed")
    await asyncio.to_thread(world.there.wait_gone, "configmap", "fixed")
    world.untrack("before")
    # The pod after it is in the cache already, but was not reconciled yet, when the object's news comes.
    world.waiting.add(world.key("fixed"))
    await asyncio.to_thread(world.here.create, m.config_map("fixed", data="second"))
    await world.until(lambda: world.key("fixed") in world.asked, what="news of the object")
    assert not world.track("after", "fixed"), "that there is none is old news"
    await asyncio.to_thread(world.there.wait_for, "configmap", "fixed", lambda copy: copy["data"]["data"] == "second")
    await world.until(lambda: (world.here.namespace, "after") in world.woken, what="the pod to be told")
    assert world.track("after", "fixed")
