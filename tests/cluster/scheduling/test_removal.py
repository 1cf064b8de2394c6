"""VirtualNodes that are removed side by side, and what is left of one that was not removed in order."""

import asyncio
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from api import installed
from api.offloading.virtual_node import VirtualNode
from deploy import stack
from deploy.lab.cluster import LabCluster
from deploy.lab.lab import Lab
from isthmus.orphans import Orphans
from isthmus.providers import Providers
from kube.client import Client
from reflection.forge import names
from tests.cluster.scheduling.conftest import Space, pod
from tests.cluster.scheduling.managing import Background, Part
from tests.cluster.scheduling.waiting import LONG, Json
from tests.kubectl import Kubectl, admin, eventually
from vk.node.settings import MARKER_LABEL
from vk.virtualnode.controller import Retire, VirtualNodes
from vk.virtualnode.credentials import FINALIZER
from vk.virtualnode.settings import VirtualNodeSettings

COUNT = 3
CONSUMER_ID = "ends"


class Together:
    """Clears providers for several VirtualNodes at one moment, so that all end at once."""

    def __init__(self) -> None:
        self._barrier = asyncio.Barrier(COUNT)
        self._met = False

    async def __call__(self, _virtual: VirtualNode) -> str:
        if not self._met:  # who has to try once more waits for nobody
            async with asyncio.timeout(LONG):
                await self._barrier.wait()
            self._met = True
        return ""


async def at_once(_virtual: VirtualNode) -> str:
    """Nothing is to be cleared."""
    return ""


def running(cluster: LabCluster, namespace: str, retire: Callable[[], Retire], *, look: bool = False) -> Background:
    """The manager's controller, in this namespace; with `look` it asks providers for orphans without a pause."""
    settings = VirtualNodeSettings(
        namespace=namespace, image="isthmus.dev/none:1", consumer_id=CONSUMER_ID, server="https://c:6443", ca=b"ca"
    )

    def part(client: Client) -> Part:
        providers = Providers(client, namespace=namespace, consumer_id=CONSUMER_ID, virtual_nodes=lambda: ())
        orphans = Orphans(
            providers,
            consumer_id=CONSUMER_ID,
            nodes=lambda: made.names(),  # noqa: PLW0108 - made below
            interval=0,
            confirm=0,
        )
        made = VirtualNodes(
            client, settings, retire=retire(), orphans=orphans if look else None, registry=CollectorRegistry()
        )
        caches = [(name, reflector.run) for name, reflector in made.cache_tasks()]

        async def begun() -> None:
            for _, reflector in made.cache_tasks():
                await reflector.synced.wait()

        return (*caches, ("virtual nodes controller", made.run)), begun

    return Background(cluster.admin_kubeconfig, part)


def virtual_node(name: str, *, secret: str) -> Json:
    spec = {"provider": "north", "kubeconfigSecret": {"name": secret}}
    kind = {"apiVersion": "offloading.isthmus.dev/v1alpha1", "kind": "VirtualNode"}
    return {**kind, "metadata": {"name": name}, "spec": spec}


@pytest.fixture
def together(with_kinds: LabCluster, space: Space) -> Iterator[None]:
    with running(with_kinds, space.name, Together):
        yield


def test_virtual_nodes_that_end_together_leave_neither_the_guard_nor_the_secret(together: None, space: Space) -> None:
    kubectl = space.kubectl
    names = [f"end-{uuid.uuid4().hex[:6]}" for _ in range(COUNT)]
    for name in ("shared", "own"):
        kubectl.run("create", "secret", "generic", name, "--from-literal=kubeconfig=none")
    for name, secret in zip(names, ("shared", "shared", "own"), strict=True):
        kubectl.create(virtual_node(name, secret=secret))
    for secret in ("shared", "own"):
        kubectl.wait_for("secret", secret, lambda found: FINALIZER in found["metadata"]["finalizers"], timeout=LONG)
    assert kubectl.exists("validatingadmissionpolicybinding", installed.IN_USE)

    kubectl.delete("virtualnode", *names, timeout=LONG)
    assert not kubectl.exists("validatingadmissionpolicybinding", installed.IN_USE)
    assert not kubectl.exists("validatingadmissionpolicy", installed.IN_USE)
    for secret in ("shared", "own"):
        assert FINALIZER not in kubectl.get("secret", secret)["metadata"].get("finalizers", ())
    until_free(kubectl)


def until_free(kubectl: Kubectl) -> None:
    """The API server looks for policies once a second: it may hold the namespace until then."""
    trial = ("delete", "namespace", kubectl.namespace, "--dry-run=server")
    eventually(lambda: kubectl.result(*trial).returncode == 0, what="the namespace to be free", timeout=LONG)


def test_what_was_held_for_a_virtual_node_that_went_without_us_is_let_go(with_kinds: LabCluster, space: Space) -> None:
    """Somebody takes its finalizer while no manager runs: nothing wakes the next one for it."""
    kubectl, name = space.kubectl, f"struck-{uuid.uuid4().hex[:6]}"
    kubectl.run("create", "secret", "generic", "own", "--from-literal=kubeconfig=none")
    with running(with_kinds, space.name, Together):
        kubectl.create(virtual_node(name, secret="own"))
        kubectl.wait_for("secret", "own", lambda found: FINALIZER in found["metadata"]["finalizers"], timeout=LONG)
    kubectl.delete("virtualnode", name, "--wait=false")
    kubectl.run("patch", "virtualnode", name, "--type=merge", "-p", json.dumps({"metadata": {"finalizers": None}}))
    kubectl.wait_gone("virtualnode", name)
    assert kubectl.exists("validatingadmissionpolicybinding", installed.IN_USE)
    with running(with_kinds, space.name, Together):
        kubectl.wait_gone("validatingadmissionpolicybinding", installed.IN_USE, timeout=LONG)
        kubectl.wait_gone("validatingadmissionpolicy", installed.IN_USE, timeout=LONG)
        free = lambda: not kubectl.get("secret", "own")["metadata"].get("finalizers")  # noqa: E731
        eventually(free, what="the Secret to be free", timeout=LONG)
    until_free(kubectl)


@pytest.fixture
def there(lab: Lab) -> Iterator[Kubectl]:
    """kubectl in a namespace that the consumer made at the provider."""
    stack.grant(lab.provider, consumer_id=CONSUMER_ID)
    kubectl = admin(lab.provider, f"left-{uuid.uuid4().hex[:6]}-{CONSUMER_ID}")
    metadata = {
        "name": kubectl.namespace,
        "labels": {names.CONSUMER_LABEL: CONSUMER_ID},
        "annotations": {names.ORIGIN_NAMESPACE: "left"},
    }
    kubectl.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    kubectl.wait_for("serviceaccount", "default", timeout=LONG)
    stack.grant_namespace(lab.provider, kubectl.namespace, consumer_id=CONSUMER_ID)
    yield kubectl
    kubectl.delete("namespace", kubectl.namespace, "--wait=false")


@pytest.fixture
def node(space: Space) -> Iterator[str]:
    """A virtual node that says it is Ready."""
    name = f"stays-{uuid.uuid4().hex[:6]}"
    space.kubectl.create(
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {MARKER_LABEL: "isthmus"}}}
    )
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "for this test"}
    status = json.dumps({"status": {"conditions": [ready]}})
    space.kubectl.run("patch", "node", name, "--subresource=status", "--type=merge", "-p", status)
    yield name
    space.kubectl.delete("node", name, "--ignore-not-found")


def test_f31_pods_of_a_virtual_node_that_is_no_more_are_told_of(
    lab: Lab, with_kinds: LabCluster, space: Space, there: Kubectl, node: str, tmp_path: Path
) -> None:
    kubectl = space.kubectl
    for name, of in (("lost", "forced-away"), ("kept", node)):
        labels = {names.CONSUMER_LABEL: CONSUMER_ID, names.NODE_LABEL: of}
        there.create(pod(name, metadata={"labels": labels}, nodeSelector={"no": "where"}))
    there.create(pod("stranger", metadata={"labels": {names.NODE_LABEL: "theirs"}}, nodeSelector={"no": "where"}))
    file = lab.provider.client_kubeconfig(stack.provider_user(CONSUMER_ID), path=tmp_path / "kubeconfig")
    kubectl.run("create", "secret", "generic", "provider", f"--from-file=kubeconfig={file}")

    def told(status: str) -> str:
        """What the condition says once it has this status. The controller looks again when the object changes."""
        kubectl.run("annotate", "virtualnode", node, "--overwrite", f"test.isthmus.dev/look={uuid.uuid4().hex}")
        conditions = kubectl.get("virtualnode", node).get("status", {}).get("conditions") or []
        found = [one for one in conditions if one["type"] == "NoOrphans" and one["status"] == status]
        return str(found[0]["message"]) if found else ""

    with running(with_kinds, space.name, lambda: at_once, look=True):
        kubectl.create(virtual_node(node, secret="provider"))
        message = eventually(lambda: told("False"), what="the orphan to be told of", timeout=LONG, every=0.5)
        assert message.startswith("1 pods at the provider are of virtual nodes that are no more (forced-away): ")
        assert f"{there.namespace}/lost;" in message
        assert there.exists("pod", "lost"), "nobody deletes it"
        there.delete("pod", "lost")
        eventually(lambda: told("True"), what="nothing to be left", timeout=LONG, every=0.5)
        kubectl.delete("virtualnode", node, timeout=LONG)
    assert there.exists("pod", "kept")
