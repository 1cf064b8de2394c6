"""A consumer that knows our kinds, clients of it, and short words for what tests make there."""

import asyncio
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from deploy.lab.cluster import LabCluster
from deploy.lab.lab import Lab
from deploy.lab.paths import ROOT
from kube import config
from kube.client import Client
from tests.kubectl import Kubectl, eventually

T = TypeVar("T")
Json = dict[str, Any]
LONG = 60.0
"""Seconds that anything may take on a busy machine."""


@pytest.fixture(scope="session")
def with_kinds(consumer: LabCluster) -> LabCluster:
    """The consumer with the group's CRDs."""
    kubectl = Kubectl(consumer.plan.binaries / "kubectl", consumer.admin_kubeconfig)
    kubectl.run("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "deploy/crds"))
    kubectl.run("wait", "--for=condition=Established", "crd", "--all")
    for plural in ("virtualnodes", "namespaceoffloadings"):
        eventually(lambda plural=plural: kubectl.run("get", plural, "-A") is not None, what=plural)  # type: ignore[misc]  # a default argument
    return consumer


@pytest.fixture
async def client(with_kinds: LabCluster) -> AsyncIterator[Client]:
    """The consumer's administrator."""
    credentials = await config.load(kubeconfig=str(with_kinds.admin_kubeconfig))
    async with Client.connect(credentials, name="consumer") as made:
        yield made


@pytest.fixture
def space(lab: Lab, with_kinds: LabCluster) -> Iterator["Space"]:
    """A namespace of the test's own at the consumer."""
    kubectl = Kubectl(
        with_kinds.plan.binaries / "kubectl", with_kinds.admin_kubeconfig, namespace=f"s-{uuid.uuid4().hex[:8]}"
    )
    kubectl.run("create", "namespace", kubectl.namespace)
    kubectl.wait_for("serviceaccount", "default", timeout=LONG)
    yield Space(kubectl)
    kubectl.run("delete", "namespace", kubectl.namespace, "--wait=false", "--ignore-not-found")


@dataclass(frozen=True)
class Space:
    """kubectl in one namespace, with what tests often do."""

    kubectl: Kubectl

    @property
    def name(self) -> str:
        return self.kubectl.namespace

    def offload(self, **spec: Any) -> Json:
        """Make or change the namespace's NamespaceOffloading."""
        manifest = {
            "apiVersion": "offloading.isthmus.dev/v1alpha1",
            "kind": "NamespaceOffloading",
            "metadata": {"name": "offloading"},
            "spec": spec,
        }
        self.kubectl.apply(manifest)
        return self.kubectl.get("namespaceoffloading", "offloading")

    def offloading(self) -> Json:
        return self.kubectl.get("namespaceoffloading", "offloading")

    def pod(self, name: str, *, metadata: Json | None = None, **spec: Any) -> Json:
        """Create a pod and return it as the API server has it."""
        return self.kubectl.create(pod(name, metadata=metadata, **spec))


def pod(name: str, *, metadata: Json | None = None, **spec: Any) -> Json:
    container = {"name": "main", "image": "isthmus.dev/none:1"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **(metadata or {})},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0, **spec},
    }


async def until(probe: Callable[[], Awaitable[T]], *, what: str, seconds: float = LONG) -> T:
    """The first true value of `probe`; AssertionError if none comes in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = await probe()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}; last seen: {value!r}"
        await asyncio.sleep(0.1)


@asynccontextmanager
async def running(*tasks: tuple[str, Callable[[], Awaitable[None]]]) -> AsyncIterator[None]:
    """Have tasks run meanwhile; if one fails, so does the test."""
    async with asyncio.TaskGroup() as group:
        made = [group.create_task(_forever(run), name=name) for name, run in tasks]
        try:
            yield
        finally:
            for task in made:
                task.cancel()


async def _forever(run: Callable[[], Awaitable[None]]) -> None:
    await run()
    raise AssertionError("a task that should run for ever has ended")


def free_port(host: str) -> int:
    """A TCP port that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
