"""Copies of what pods name, between two real API servers, where news come in an order that is seldom."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from deploy.lab.lab import Lab
from deploy.lab.relay import Relay
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
    relay: Relay
    """Before the provider."""
    registry: CollectorRegistry
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

    def busy(self) -> bool:
        """Whether a copy is being seen to."""
        return bool(self.registry.get_sample_value("isthmus_workers_busy", {"controller": "references"}))

    def untrack(self, pod: str) -> None:
        self.references.untrack((self.here.namespace, pod))

    async def until(self, probe: Callable[[], object], *, what: str) -> None:
        await asyncio.to_thread(eventually, probe, what=what, timeout=LONG)


async def connected(kubeconfig: Path) -> AbstractAsyncContextManager[Client]:
    return Client.connect(await config.load(kubeconfig=str(kubeconfig)), name=kubeconfig.parent.name)


@pytest.fixture
async def world(lab: Lab, namespace: str, lab_gateway: str, tmp_path: Path) -> AsyncIterator[World]:
    registry = CollectorRegistry()
    async with AsyncExitStack() as held:
        relay = await held.enter_async_context(Relay.running((lab.provider.plan.site.ip, 6443), host=lab_gateway))
        file = lab.provider.client_kubeconfig(
            "lab:admin", groups=["system:masters"], path=tmp_path / "provider", server=relay.url
        )
        consumer = await held.enter_async_context(await connected(lab.consumer.admin_kubeconfig))
        provider = await held.enter_async_context(await connected(file))
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
            registry=registry,
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
            registry=registry,
        )
        made = World(admin(lab.consumer, namespace), admin(lab.provider, namespace), references, relay, registry)
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


async def test_a_pod_that_comes_while_the_copy_is_written_for_another_is_told(world: World) -> None:
    await asyncio.to_thread(world.here.create, m.config_map("fixed", data="first"))
    world.track("before", "fixed")
    await world.until(lambda: world.track("before", "fixed"), what="the first copy")
    world.relay.freeze()
    await asyncio.to_thread(world.here.apply, m.config_map("fixed", data="second"))
    await world.until(world.busy, what="the write of the second")
    world.untrack("before")
    assert not world.track("after", "fixed")
    world.relay.thaw()
    await world.until(lambda: (world.here.namespace, "after") in world.woken, what="the pod to be told")
    await asyncio.to_thread(world.there.wait_for, "configmap", "fixed", lambda copy: copy["data"]["data"] == "second")
    assert world.track("after", "fixed")
