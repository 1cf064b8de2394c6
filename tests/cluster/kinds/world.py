"""What a test of reflected kinds works with: a namespace on both sides, and reflection that can end and begin anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from deploy.lab.relay import Relay
from kube.client import Client
from kube.errors import ApiError, KubeError
from kube.events import EventRecorder
from kube.objects import Event, Object
from kube.resources import EVENTS, Resource
from reflection.kinds.model import AddressTranslation, Classes, Kind
from reflection.kinds.offloaded import Offloaded
from reflection.kinds.owner import Alone, Ownership
from reflection.kinds.reflection import Reflection
from reflection.kinds.settings import KindSettings

Json = dict[str, Any]

CONSUMER_ID = "kinds"
PROVIDER = "provider"
NODE = "virtual-kinds"
LONG = 45.0
"""Seconds that anything may take on a busy machine."""


@dataclass(frozen=True, kw_only=True)
class World:
    """Two clients with the rights of `deploy/rbac`, two of administrators, and a link to the provider to harm."""

    namespace: str
    consumer: Client
    provider: Client
    admin: Client
    """Administrator of the consumer."""
    remote_admin: Client
    """Administrator of the provider."""
    relay: Relay
    started: list[Reflection] = field(default_factory=list)

    @property
    def remote_namespace(self) -> str:
        return self.namespace

    # -- reflection

    @asynccontextmanager
    async def reflecting(
        self,
        *kinds: Kind,
        settings: KindSettings | None = None,
        owner: Ownership | None = None,
        entries: Iterable[Offloaded] | None = None,
        translation: AddressTranslation | None = None,
        nodes: Iterable[str] = (NODE,),
    ) -> AsyncIterator[Reflection]:
        """Reflect these kinds for the time of the block."""
        recorder = EventRecorder(self.consumer, component="isthmus", host=NODE)
        made = Reflection(
            settings or settings_for_tests(),
            consumer=self.consumer,
            provider=self.provider,
            recorder=recorder,
            owner=owner or Alone(),
            kinds=kinds,
            translation=translation,
        )
        made.set_nodes(nodes)
        made.set_namespaces(entries if entries is not None else [self.entry()])
        tasks = [asyncio.create_task(made.run()), asyncio.create_task(recorder.run())]
        try:
            yield made
            assert not any(task.done() for task in tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def entry(self, **fields: Any) -> Offloaded:
        return Offloaded(self.namespace, self.remote_namespace, **fields)

    # -- objects, as the administrators see them

    async def create(self, resource: Resource, body: Json) -> Json:
        return await self.admin.create(resource, _typed(resource, body), namespace=self.namespace)

    async def create_remote(self, resource: Resource, body: Json) -> Json:
        return await self.remote_admin.create(resource, _typed(resource, body), namespace=self.remote_namespace)

    async def patch(self, resource: Resource, name: str, body: Json, *, subresource: str | None = None) -> Json:
        return await self.admin.patch(resource, body, name=name, namespace=self.namespace, subresource=subresource)

    async def patch_remote(self, resource: Resource, name: str, body: Json, *, subresource: str | None = None) -> Json:
        return await self.remote_admin.patch(
            resource, body, name=name, namespace=self.remote_namespace, subresource=subresource
        )

    async def delete(self, resource: Resource, name: str) -> None:
        await self.admin.delete(resource, name=name, namespace=self.namespace)

    async def local(self, resource: Resource, name: str) -> Json | None:
        return await _get(self.admin, resource, name, self.namespace)

    async def remote(self, resource: Resource, name: str) -> Json | None:
        return await _get(self.remote_admin, resource, name, self.remote_namespace)

    async def events(self, name: str, reason: str) -> list[Event]:
        listing = await self.admin.list(EVENTS, namespace=self.namespace, decode=Event)
        return [e for e in listing.items if e.involved_object.name == name and e.reason == reason]

    async def revisions(self, resource: Resource) -> dict[str, str]:
        """Every object of the provider's namespace and its generation, where it has none its resourceVersion.

        The provider's own controllers write status, which does not count.
        """
        listing = await self.remote_admin.list(resource, namespace=self.remote_namespace, decode=Object)
        metadata = [item.metadata for item in listing.items]
        return {found.name: str(found.generation or found.resource_version) for found in metadata}

    def writes(self, resource: Resource) -> dict[str, int]:
        """How many writes of a kind the provider has been sent so far, by verb."""
        counts = dict.fromkeys(("create", "update", "patch", "delete"), 0)
        for sample in next(iter(self.provider.metrics.requests.collect())).samples:
            labels = sample.labels
            ours = labels.get("client") == self.provider.name and labels.get("resource") == resource.plural
            if ours and labels.get("verb") in counts and sample.name.endswith("_total"):
                counts[labels["verb"]] += int(sample.value)
        return counts

    # -- waiting

    async def until(self, condition: Callable[[], Awaitable[Any]], *, what: str, timeout: float = LONG) -> Any:
        """Until it gives something true, which is returned; no answer counts as no."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    try:
                        found = await condition()
                    except KubeError:
                        found = None
                    if found:
                        return found
                    await asyncio.sleep(0.03)
        except TimeoutError:
            raise AssertionError(f"{what}: not within {timeout:g} s") from None

    async def until_remote(
        self, resource: Resource, name: str, accept: Callable[[Json], object] = lambda _found: True
    ) -> Json:
        """Until the provider's object is there and as it should be."""
        seen: list[Json | None] = [None]

        async def accepted() -> Json | None:
            seen[0] = await self.remote(resource, name)
            return seen[0] if seen[0] is not None and accept(seen[0]) else None

        try:
            found: Json = await self.until(accepted, what=f"{resource.kind} {name} at the provider")
        except AssertionError as error:
            raise AssertionError(f"{error}; last seen: {seen[0]}") from None
        return found

    async def until_gone(self, resource: Resource, name: str) -> None:
        """Until the provider has no such object."""

        async def gone() -> bool:
            return await self.remote(resource, name) is None

        await self.until(gone, what=f"{resource.kind} {name} gone at the provider")

    async def until_told(self, name: str, reason: str) -> Event:
        """Until an event about a consumer's object is there."""

        async def told() -> list[Event]:
            return await self.events(name, reason)

        found: list[Event] = await self.until(told, what=f"event {reason} about {name}")
        return found[0]


def settings_for_tests(**fields: Any) -> KindSettings:
    """Quick to try again; the classes `near` of the consumer are the provider's `far`."""
    classes = Classes(ingress={"near": "far"}, load_balancer={"near": "far"})
    return KindSettings(
        **{"consumer_id": CONSUMER_ID, "provider": PROVIDER, "retry": 1.0, "classes": classes, **fields}
    )


async def _get(client: Client, resource: Resource, name: str, namespace: str) -> Json | None:
    try:
        return await client.get(resource, name=name, namespace=namespace)
    except ApiError as error:
        if error.not_found:
            return None
        raise


def _typed(resource: Resource, body: Json) -> Json:
    return {"apiVersion": resource.api_version, "kind": resource.kind, **body}
