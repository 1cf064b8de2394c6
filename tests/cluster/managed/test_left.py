"""What is left at a managed provider of a virtual node that is no more."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from api.offloading.virtual_node import SecretKey, VirtualNode, VirtualNodeSpec
from deploy import stack
from deploy.lab.lab import Lab
from isthmus.orphans import Orphans
from isthmus.providers import Providers
from kube import config
from kube.client import Client
from kube.objects import Metadata
from reflection.forge import names
from tests.cluster.managed.conftest import LONG, OTHER_ID, Tenant, shadow
from tests.kubectl import Kubectl, admin

Json = dict[str, Any]
VIRTUAL = VirtualNode(
    metadata=Metadata(name="stays"),
    spec=VirtualNodeSpec(provider="north", mode="Managed", kubeconfig_secret=SecretKey(name="provider")),
)


@pytest.fixture
def own(lab: Lab, tmp_path: Path) -> Iterator[Kubectl]:
    """kubectl where the consumer's manager has its Secrets, with the other tenant's credential in one."""
    kubectl = admin(lab.consumer, "left")
    kubectl.run("create", "namespace", kubectl.namespace)
    file = lab.provider.client_kubeconfig(stack.provider_user(OTHER_ID), path=tmp_path / "kubeconfig")
    kubectl.run("create", "secret", "generic", "provider", f"--from-file=kubeconfig={file}")
    yield kubectl
    kubectl.delete("namespace", kubectl.namespace, "--wait=false")


@pytest.fixture
async def orphans(lab: Lab, own: Kubectl) -> AsyncIterator[Orphans]:
    async with Client.connect(await config.load(kubeconfig=str(lab.consumer.admin_kubeconfig)), name="own") as client:
        providers = Providers(client, namespace=own.namespace, consumer_id=OTHER_ID, virtual_nodes=lambda: (VIRTUAL,))
        yield Orphans(providers, consumer_id=OTHER_ID, nodes=lambda: {"stays"}, interval=0, confirm=0)


def of_node(name: str, node: str) -> Json:
    made = shadow(name, held=True)
    made["metadata"]["labels"] = {names.CONSUMER_LABEL: OTHER_ID, names.NODE_LABEL: node}
    return made


async def test_f31_shadow_pods_of_a_virtual_node_that_is_no_more_are_told_of(
    orphans: Orphans, neighbour: Tenant
) -> None:
    # As a virtual kubelet marks what it asks for.
    neighbour.admin.run(
        *("label", "namespacemap", neighbour.origin, f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY}"),
        f"--namespace={neighbour.tenant}",
    )
    for name, node in (("lost", "forced-away"), ("kept", "stays")):
        neighbour.kubectl.create(of_node(name, node))
        neighbour.admin.wait_for("pod", name, timeout=LONG)
    assert await orphans(VIRTUAL) == "", "what is found once may be about to end"
    told = await orphans(VIRTUAL)
    assert told is not None
    assert told.startswith("1 pods at the provider are of virtual nodes that are no more (forced-away): ")
    assert f"{neighbour.namespace}/lost;" in told
    assert neighbour.admin.exists("pod", "lost"), "nobody deletes it"
    neighbour.kubectl.delete("shadowpod", "lost", "--timeout=60s", timeout=LONG)
    await orphans(VIRTUAL)
    assert await orphans(VIRTUAL) == ""
    assert neighbour.admin.exists("pod", "kept")
