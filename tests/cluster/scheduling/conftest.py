"""A consumer that knows our kinds, clients of it, and short words for what tests make there."""

import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from deploy.lab.cluster import LabCluster
from deploy.lab.lab import Lab
from deploy.lab.paths import ROOT
from kube import config
from kube.client import Client
from reflection.scheduling.keeper import KeeperSettings
from reflection.scheduling.leadership import Alone
from reflection.scheduling.registration import Endpoint
from reflection.scheduling.webhook import PodWebhook, WebhookSettings
from tests.cluster.scheduling.managing import MANAGER, Background, binding, offloadings
from tests.cluster.scheduling.waiting import LONG, Json, free_port
from tests.cluster.scheduling.webhooks import no_offloadings
from tests.kubectl import Kubectl, admin, eventually


@pytest.fixture(scope="package")
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
    # The API server looks for policies once a second: what held isthmus in place may hold this for a moment longer.
    delete = ("delete", "namespace", kubectl.namespace, "--wait=false", "--ignore-not-found")
    eventually(lambda: kubectl.result(*delete).returncode == 0, what="the namespace to be free", timeout=LONG)


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


@pytest.fixture
async def settings(client: Client, lab_gateway: str) -> AsyncIterator[WebhookSettings]:
    """Names and a port of the test's own; what a webhook with these settings made is removed afterwards."""
    name = f"isthmus-{uuid.uuid4().hex[:8]}"
    port = free_port(lab_gateway)
    endpoint = Endpoint(address=lab_gateway, port=port)
    keeper = KeeperSettings(namespace="default", endpoint=endpoint, secret=name, configuration=name)
    made = WebhookSettings(keeper=keeper, host=lab_gateway, port=port)
    yield made
    webhook = PodWebhook(
        client, made, offloadings=no_offloadings(client), leadership=Alone(), registry=CollectorRegistry()
    )
    await webhook.keeper.unregister()


@pytest.fixture(scope="package")
def manager_kubeconfig(with_kinds: LabCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user with the manager's rights for this, and no others."""
    kubectl = admin(with_kinds, "isthmus")
    kubectl.run("apply", "--server-side", "-f", str(ROOT / "deploy/manager/base/namespace.yaml"))
    kubectl.run("apply", "--server-side", "-f", str(ROOT / "deploy/manager/consumer/scheduling.yaml"))
    kubectl.apply(binding("isthmus-manager-scheduling", MANAGER))
    kubectl.run("create", "rolebinding", "test", "--role=isthmus-manager-scheduling", f"--user={MANAGER}")
    probe = ("auth", "can-i", "patch", "namespaceoffloadings.offloading.isthmus.dev", f"--as={MANAGER}")
    eventually(lambda: "yes" in kubectl.run(*probe), what="the manager's rights", timeout=LONG)
    file = tmp_path_factory.mktemp("manager") / "kubeconfig"
    return with_kinds.client_kubeconfig(MANAGER, path=file)


@pytest.fixture(scope="module")
def controller(manager_kubeconfig: Path) -> Iterator[Background]:
    with Background(manager_kubeconfig, offloadings) as made:
        yield made
