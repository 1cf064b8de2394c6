"""Claims and their stubs between two real API servers: binding, growth, and whose data may be removed when."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from deploy.lab.cluster import LabCluster
from deploy.lab.lab import Lab
from kube import config
from kube.client import Client
from kube.errors import TransportError
from kube.events import EventRecorder
from kube.objects import Metadata, Object
from reflection.forge.model import Refused
from reflection.storage.claims import Claims
from reflection.storage.controller import Storage
from tests.kubectl import Kubectl, KubectlError, admin

CONSUMER_ID = "vol"
NODE = "virtual-store"
PROVIDER = "north"


Task = asyncio.Task[None]


class Providers:
    """One provider with one virtual node; `away` makes it unreachable."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self.away = False

    def of_node(self, node: str) -> str | None:
        return PROVIDER if node == NODE else None

    def remote_namespace(self, provider: str, namespace: str) -> str:
        assert provider == PROVIDER
        assert namespace == self._namespace
        return namespace

    @asynccontextmanager
    async def client(self, provider: str) -> AsyncIterator[Client | None]:
        assert provider == PROVIDER
        if self.away:
            raise TransportError("the provider is away", sent=False)
        yield self._client


class World:
    """A running controller, and both sides as their administrators see them."""

    def __init__(
        self, here: Kubectl, there: Kubectl, providers: Providers, claims: Claims, start: Callable[[], list[Task]]
    ) -> None:
        self.here, self.there, self.providers, self._claims = here, there, providers, claims
        self._start = start
        self._tasks = start()

    async def stop(self) -> None:
        """The controller ends, as with its process."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def start(self) -> None:
        """A new one begins, which knows nothing."""
        self._tasks = self._start()

    @asynccontextmanager
    async def stopped(self, wanted: bool) -> AsyncIterator[None]:
        """No controller runs meanwhile, if that is wanted."""
        if wanted:
            await self.stop()
        yield
        if wanted:
            self.start()

    async def until(self, probe: Callable[[], Any], *, what: str) -> Any:
        """The first true value of a blocking probe."""
        async with asyncio.timeout(60):
            while True:
                try:
                    if value := await asyncio.to_thread(probe):
                        return value
                except (KubectlError, LookupError):
                    pass
                await asyncio.sleep(0.1)
        raise AssertionError(what)

    async def make(self, name: str, storage_class: str = "isthmus") -> None:
        """A claim that waits for its first pod."""
        spec = {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage_class,
            "resources": {"requests": {"storage": "1Gi"}},
        }
        manifest = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}
        await asyncio.to_thread(self.here.create, manifest)

    async def bound(self, name: str, *, storage_class: str = "isthmus") -> str:
        """Make a claim and choose its node, as a scheduler does; the name of its volume."""
        await self.make(name, storage_class)
        await self.choose(name, NODE)
        found = await self.until(lambda: self.phase(name) == "Bound" and self.claim(name), what="the claim to be bound")
        return str(found["spec"]["volumeName"])

    async def choose(self, name: str, node: str) -> None:
        mark = f"volume.kubernetes.io/selected-node={node}"
        await asyncio.to_thread(self.here.run, "annotate", "persistentvolumeclaim", name, mark)

    def claim(self, name: str) -> dict[str, Any]:
        return self.here.get("persistentvolumeclaim", name)

    def phase(self, name: str) -> str:
        return str(self.claim(name)["status"]["phase"])

    async def offload(self, name: str) -> None:
        """What the virtual kubelet does before it makes a pod that names the claim."""
        volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": name}}]
        pod = {"metadata": {"name": "p"}, "spec": {"volumes": volumes}}
        origin = Object(metadata=Metadata(name="p", namespace=self.here.namespace))
        await self._claims.ensure(origin, pod, remote_namespace=self.there.namespace)

    async def released(self, volume: str) -> None:
        def is_released() -> bool:
            return bool(self.here.get("persistentvolume", volume)["status"]["phase"] == "Released")

        await self.until(is_released, what="the volume to be released")

    async def end(self, name: str) -> None:
        await asyncio.to_thread(self.here.run, "delete", "persistentvolumeclaim", name)

    async def gone(self, kubectl: Kubectl, kind: str, name: str) -> None:
        await self.until(lambda: not kubectl.exists(kind, name), what=f"{kind} {name} to be gone")


def storage_class(name: str, **fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": "offloading.isthmus.dev/volumes",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
        **fields,
    }


@pytest.fixture(scope="module")
def classes(consumer: LabCluster, provider: LabCluster) -> None:
    kubectl = admin(consumer, "default")
    kubectl.apply(storage_class("isthmus"), storage_class("kept", reclaimPolicy="Retain"))
    admin(provider, "default").apply(storage_class("disk", provisioner="kubernetes.io/no-provisioner"))


@pytest.fixture
async def world(lab: Lab, classes: None, namespace: str) -> AsyncIterator[World]:
    del classes
    own = await config.load(kubeconfig=str(lab.consumer.admin_kubeconfig))
    theirs = await config.load(kubeconfig=str(lab.provider.admin_kubeconfig))
    async with Client.connect(own, name="consumer") as here, Client.connect(theirs, name="provider") as there:
        providers = Providers(there, namespace)
        recorder = EventRecorder(here, component="test", host="test")
        claims = Claims(here, there, consumer_id=CONSUMER_ID, classes={"isthmus": "disk", "kept": "disk"})

        def start() -> list[Task]:
            storage = Storage(here, providers, recorder, consumer_id=CONSUMER_ID, registry=CollectorRegistry())
            parts = [recorder.run, storage.claim_controller.run, storage.volume_controller.run]
            parts += [reflector.run for _, reflector in storage.cache_tasks()]
            return [asyncio.create_task(part()) for part in parts]

        made = World(admin(lab.consumer, namespace), admin(lab.provider, namespace), providers, claims, start)
        try:
            yield made
        finally:
            await made.stop()


async def test_a_claim_gets_a_stub_and_its_data_goes_with_it(world: World) -> None:
    volume = await world.bound("data")
    await world.offload("data")
    await world.offload("data")
    assert world.there.get("persistentvolumeclaim", "data")["spec"]["storageClassName"] == "disk"
    await world.end("data")
    await world.gone(world.here, "persistentvolume", volume)
    assert not world.there.exists("persistentvolumeclaim", "data")


async def test_a_claim_that_never_saw_a_pod_goes_too(world: World) -> None:
    volume = await world.bound("unused")
    await world.end("unused")
    await world.gone(world.here, "persistentvolume", volume)


async def test_a_kept_volume_keeps_its_data_even_when_its_stub_is_removed(world: World) -> None:
    volume = await world.bound("dear", storage_class="kept")
    await world.offload("dear")
    await world.end("dear")
    await world.released(volume)
    await asyncio.to_thread(world.here.run, "delete", "persistentvolume", volume)
    assert world.there.get("persistentvolumeclaim", "dear")["metadata"].get("deletionTimestamp") is None


async def test_a_provider_that_is_away_holds_the_end_up(world: World) -> None:
    volume = await world.bound("far")
    await world.offload("far")
    world.providers.away = True
    await world.end("far")
    await world.released(volume)
    assert world.there.exists("persistentvolumeclaim", "far")
    world.providers.away = False
    await world.gone(world.here, "persistentvolume", volume)
    assert not world.there.exists("persistentvolumeclaim", "far")


async def test_a_restart_in_the_middle_goes_on_where_it_was(world: World) -> None:
    """One claim ends, another is given its node, a third grows, while no controller runs."""
    volumes = {name: await world.bound(name) for name in ("ending", "growing")}
    for name in volumes:
        await world.offload(name)
    uid = world.there.get("persistentvolumeclaim", "growing")["metadata"]["uid"]
    await world.stop()
    await world.end("ending")
    await world.make("waiting")
    await world.choose("waiting", NODE)
    world.start()
    await world.gone(world.here, "persistentvolume", volumes["ending"])
    assert not world.there.exists("persistentvolumeclaim", "ending")
    await world.until(lambda: world.phase("waiting") == "Bound", what="the claim to be bound")
    assert world.there.get("persistentvolumeclaim", "growing")["metadata"]["uid"] == uid, "the data is the same"
    assert world.claim("growing")["spec"]["volumeName"] == volumes["growing"]


async def test_a_provider_that_is_away_holds_growth_up(world: World) -> None:
    await world.bound("slow")
    await world.offload("slow")
    world.providers.away = True
    size = '{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}'
    name = f"disk-{world.there.namespace}"
    await asyncio.to_thread(world.there.create, disk(name, world.there.namespace, "slow"))
    await world.until(lambda: world.there.get("pvc", "slow")["status"]["phase"] == "Bound", what="binding")
    await asyncio.to_thread(world.here.run, "patch", "persistentvolumeclaim", "slow", "-p", size)
    world.providers.away = False

    def asked() -> bool:
        return bool(world.there.get("pvc", "slow")["spec"]["resources"]["requests"]["storage"] == "2Gi")

    await world.until(asked, what="the provider to be asked")
    await asyncio.to_thread(world.there.run, "delete", "persistentvolume", name, "--wait=false")


async def test_a_foreign_claim_at_the_provider_is_neither_used_nor_removed(world: World) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": "disk", "resources": {"requests": {"storage": "1Gi"}}}
    theirs = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "theirs"}, "spec": spec}
    await asyncio.to_thread(world.there.create, theirs)
    volume = await world.bound("theirs")
    with pytest.raises(Refused, match="isthmus did not make"):
        await world.offload("theirs")
    await world.end("theirs")
    await world.gone(world.here, "persistentvolume", volume)
    assert world.there.get("persistentvolumeclaim", "theirs")["metadata"].get("deletionTimestamp") is None


async def test_a_claim_for_an_ordinary_node_is_sent_back_to_the_scheduler(world: World) -> None:
    await world.make("lost")
    with pytest.raises(Refused, match="is not bound yet"):
        await world.offload("lost")
    await world.choose("lost", "worker-1")

    def sent_back() -> bool:
        return "volume.kubernetes.io/selected-node" not in world.claim("lost")["metadata"]["annotations"]

    await world.until(sent_back, what="the choice to be undone")
    selector = "--field-selector=involvedObject.name=lost,reason=ProvisioningFailed"
    await world.until(lambda: world.here.list("events", selector), what="an event")


@pytest.mark.parametrize("away", ["never", "asked", "grown"])
async def test_a_volume_grows_when_the_provider_says_so(world: World, away: str) -> None:
    """Whether a controller runs all the time, or not when more is asked for, or not when the provider has grown it."""
    volume = await world.bound("small")
    await world.offload("small")
    there, name = world.there, f"disk-{world.there.namespace}"
    await asyncio.to_thread(there.create, disk(name, there.namespace, "small"))
    await world.until(lambda: there.get("persistentvolumeclaim", "small")["status"]["phase"] == "Bound", what="binding")
    size = '{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}'
    async with world.stopped(away == "asked"):
        await asyncio.to_thread(world.here.run, "patch", "persistentvolumeclaim", "small", "-p", size)

    def asked() -> bool:
        return bool(there.get("persistentvolumeclaim", "small")["spec"]["resources"]["requests"]["storage"] == "2Gi")

    await world.until(asked, what="the provider to be asked")
    assert world.claim("small")["status"]["capacity"]["storage"] == "1Gi"
    grown = '{"status":{"capacity":{"storage":"2Gi"}}}'
    async with world.stopped(away == "grown"):
        claim = ("patch", "persistentvolumeclaim", "small", "--subresource=status", "-p", grown)
        await asyncio.to_thread(there.run, *claim)
    await world.until(lambda: world.claim("small")["status"]["capacity"]["storage"] == "2Gi", what="growth")
    assert world.here.get("persistentvolume", volume)["spec"]["capacity"]["storage"] == "2Gi"
    await asyncio.to_thread(there.run, "delete", "persistentvolume", name, "--wait=false")


def disk(name: str, namespace: str, claim: str) -> dict[str, Any]:
    """A volume of the provider for one claim."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "disk",
            "hostPath": {"path": "/nowhere"},
            "claimRef": {"namespace": namespace, "name": claim},
        },
    }
