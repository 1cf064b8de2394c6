"""Tokens of offloaded pods between two real API servers: made, renewed, removed; a stranger's name, and outages."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from deploy import stack
from deploy.lab.lab import Lab
from deploy.lab.relay import Relay
from kube import config
from kube.client import Client
from kube.errors import KubeError
from kube.objects import Object, Secret
from kube.reflector import Reflector
from kube.resources import PODS, SECRETS
from kube.store import Change, Key
from reflection import tokens
from reflection.forge import names
from reflection.forge.model import TokenSpec
from reflection.tokens import EXPIRES, TOKEN_FOR_LABEL, TokenRefusedError, Tokens
from tests.kubectl import Kubectl, admin, eventually

Json = dict[str, Any]
CONSUMER_ID = "tokens"
NODE = "virtual-tokens"
SPECS = [TokenSpec(secret="", key="token", audience="", expiration_seconds=3600)]
LONG = 60.0


@dataclass
class World:
    """A pod, and the tokens of its namespace while `running`."""

    here: Kubectl
    there: Kubectl
    consumer: Client
    provider: Client
    relay: Relay
    made: Tokens | None = field(default=None)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Tokens]:
        """A process that looks after tokens, with caches as a virtual kubelet has them."""
        registry, namespace = CollectorRegistry(), self.there.namespace

        def changed(change: Change[Secret]) -> None:
            made.stored_changed(namespace, change)

        pods: Reflector[Object] = Reflector(
            self.consumer,
            PODS,
            decode=Object,
            namespace=self.here.namespace,
            on_change=lambda _change: None,
            registry=registry,
        )
        stored: Reflector[Secret] = Reflector(
            self.provider,
            SECRETS,
            decode=Secret,
            namespace=namespace,
            label_selector=names.CONSUMER_LABEL,
            on_change=changed,
            registry=registry,
        )

        def found(key: Key) -> Secret | None:
            return stored.store.get(key)

        made = Tokens(
            self.consumer,
            self.provider,
            pods.store,
            consumer_id=CONSUMER_ID,
            node_name=NODE,
            stored=found,
            registry=registry,
        )
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(part.run()) for part in (pods, stored, made)]
            async with asyncio.timeout(LONG):
                await pods.synced.wait()
                await stored.synced.wait()
            yield made
            for task in running:
                task.cancel()

    async def pod(self, name: str) -> Object:
        """A pod of the node, as a cache has it."""
        spec = {
            "nodeName": NODE,
            "containers": [{"name": "main", "image": "none:1"}],
            "terminationGracePeriodSeconds": 0,
        }
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        await asyncio.to_thread(self.here.create, body)
        return await self.consumer.get(PODS, name=name, namespace=self.here.namespace, decode=Object)

    def key(self, pod: Object) -> Key:
        return self.there.namespace, names.token_secret_name(pod.metadata.name, pod.metadata.uid)

    def secret(self, pod: Object) -> Json | None:
        """The tokens at the provider."""
        name = self.key(pod)[1]
        return self.there.get("secret", name) if self.there.exists("secret", name) else None

    def accepted(self, secret: Json) -> bool:
        """Whether the consumer takes the token for that of the pod's account."""
        token = base64.b64decode(secret["data"]["token"]).decode()
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        status = self.here.create(review)["status"]
        return bool(status.get("user", {}).get("username") == f"system:serviceaccount:{self.here.namespace}:default")

    async def until(self, probe: Any, *, what: str) -> Any:
        """The first true value of a blocking probe."""
        return await asyncio.to_thread(eventually, probe, what=what, timeout=LONG)

    async def renewed(self, pod: Object, old: Json) -> Json:
        """The Secret once it has another token."""

        def other() -> Json | None:
            found = self.secret(pod)
            return found if found is not None and found["data"] != old["data"] else None

        found: Json = await self.until(other, what="another token")
        return found

    async def age(self, pod: Object) -> None:
        """Have the Secret say that its tokens are about to end."""
        soon = datetime.now(UTC).replace(microsecond=0).isoformat()
        annotate = ("annotate", "secret", self.key(pod)[1], f"{EXPIRES}={soon}", "--overwrite")
        await asyncio.to_thread(self.there.run, *annotate)


@pytest.fixture
async def world(lab: Lab, namespace: str, lab_gateway: str, tmp_path: Path) -> AsyncIterator[World]:
    own = await config.load(kubeconfig=str(lab.consumer.admin_kubeconfig))
    await asyncio.to_thread(stack.grant_namespace, lab.provider, namespace, consumer_id=CONSUMER_ID)
    async with Relay.running((lab.provider.plan.site.ip, 6443), host=lab_gateway) as relay:
        user = stack.provider_user(CONSUMER_ID)
        file = lab.provider.client_kubeconfig(user, path=tmp_path / "provider", server=relay.url)
        theirs = await config.load(kubeconfig=str(file))
        async with Client.connect(own, name="consumer") as here, Client.connect(theirs, name="provider") as there:
            yield World(admin(lab.consumer, namespace), admin(lab.provider, namespace), here, there, relay)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens are renewed after a second."""
    monkeypatch.setattr(tokens, "renew_in", lambda _expires, *, now: 1.0)


async def test_tokens_are_made_renewed_and_removed_with_their_pod(world: World, hasty: None) -> None:
    pod = await world.pod("a")
    async with world.running() as made:
        await made.ensure(pod, SPECS, namespace=world.there.namespace)
        first = world.secret(pod)
        assert first is not None
        assert world.accepted(first)
        assert first["metadata"]["labels"][TOKEN_FOR_LABEL] == pod.metadata.uid
        second = await world.renewed(pod, first)
        assert second["metadata"]["uid"] == first["metadata"]["uid"]
        assert world.accepted(second)
        world.here.delete("pod", "a", "--force", "--grace-period=0")
        made.pod_gone(("", ""))
        made.pod_gone(pod.metadata.key)
        await world.until(lambda: world.secret(pod) is None, what="the tokens to go")
        # An API server remembers for some seconds that a token was good.
        await world.until(lambda: not world.accepted(second), what="them to be of no use to who has them")


async def test_a_strangers_secret_of_that_name_is_neither_written_nor_removed(world: World) -> None:
    pod = await world.pod("a")
    name = world.key(pod)[1]
    world.there.run("create", "secret", "generic", name, "--from-literal=theirs=1")
    before = world.there.get("secret", name)
    async with world.running() as made:
        with pytest.raises(TokenRefusedError, match="did not make"):
            await made.ensure(pod, SPECS, namespace=world.there.namespace)
        world.here.delete("pod", "a", "--force", "--grace-period=0")
        made.pod_gone(pod.metadata.key)
        other = await world.pod("b")
        await made.ensure(other, SPECS, namespace=world.there.namespace)
    assert world.there.get("secret", name) == before


async def test_a_restart_in_the_middle_renews_what_is_due_and_removes_what_nobody_has(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "STRAY_DELAY", 0.5)
    stays, goes, fresh = [await world.pod(name) for name in ("stays", "goes", "fresh")]
    async with world.running() as made:
        for pod in (stays, goes, fresh):
            await made.ensure(pod, SPECS, namespace=world.there.namespace)
    before, kept = world.secret(stays), world.secret(fresh)
    assert before is not None
    await world.age(stays)
    world.here.delete("pod", "goes", "--force", "--grace-period=0")
    async with world.running() as made:
        for pod in (stays, fresh):
            made.resume(pod, SPECS, namespace=world.there.namespace)
        after = await world.renewed(stays, before)
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        assert world.accepted(after)
        await world.until(lambda: world.secret(goes) is None, what="the tokens of the lost pod to go")
    assert world.secret(fresh) == kept, "what is good still is not written again"


async def test_a_provider_that_is_away_in_the_middle_gets_them_when_it_is_back(world: World, hasty: None) -> None:
    stays, goes, new = [await world.pod(name) for name in ("stays", "goes", "new")]
    async with world.running() as made:
        for pod in (stays, goes):
            await made.ensure(pod, SPECS, namespace=world.there.namespace)
        world.relay.freeze()
        before = world.secret(stays)
        assert before is not None
        world.here.delete("pod", "goes", "--force", "--grace-period=0")
        made.pod_gone(goes.metadata.key)
        with pytest.raises((KubeError, TimeoutError)):
            async with asyncio.timeout(2):
                await made.ensure(new, SPECS, namespace=world.there.namespace)
        assert not made.holds(new, namespace=world.there.namespace), "a pod that is not made has none"
        await world.relay.drop()
        world.relay.thaw()
        after = await world.renewed(stays, before)
        assert world.accepted(after)
        await world.until(lambda: world.secret(goes) is None, what="the tokens of the pod that went")
        await made.ensure(new, SPECS, namespace=world.there.namespace)
        made_now = world.secret(new)
        assert made_now is not None
        assert world.accepted(made_now)
