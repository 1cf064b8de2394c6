"""Both clusters with the networking group's CRDs and the manager's rights of deploy/network."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploy import stack
from deploy.lab.cluster import LabCluster
from deploy.lab.paths import ROOT
from tests.cluster.network.world import World, opened
from tests.kubectl import Kubectl, eventually


@pytest.fixture(scope="module")
def managers(consumer: LabCluster, provider: LabCluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The manager's kubeconfig in each cluster."""
    return {one.name: prepare(one, tmp_path_factory.mktemp(one.name)) for one in (consumer, provider)}


def prepare(cluster: LabCluster, folder: Path) -> Path:
    """CRDs, namespace and roles; the kubeconfig of who has them."""
    admin = Kubectl(cluster.plan.binaries / "kubectl", cluster.admin_kubeconfig)
    anywhere = replace(admin, namespace="")
    admin.run("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "deploy/crds"))
    admin.run("apply", "--server-side", "-f", str(ROOT / "deploy/manager/base/namespace.yaml"))
    for file in ("namespace", "rbac"):
        anywhere.run("apply", "--server-side", "-f", str(ROOT / f"deploy/network/{file}.yaml"))
    admin.run("wait", "--for=condition=Established", "crd", "--all")
    for plural in ("networkpeerings", "externaladdresses"):
        eventually(lambda plural=plural: admin.run("get", plural) is not None, what=plural)  # type: ignore[misc]
    cluster.wait_service_account("isthmus-network")
    return cluster.client_kubeconfig(stack.MANAGER_USER, path=folder / "kubeconfig")


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A folder with a name short enough for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="fabric-") as name:
        for side in "cp":
            (Path(name) / side).mkdir()
        yield Path(name)


@pytest.fixture
async def ours(consumer: LabCluster, managers: dict[str, Path], sockets: Path) -> AsyncIterator[World]:
    """The consumer."""
    async with opened(consumer.admin_kubeconfig, managers[consumer.name], sockets / "c") as made:
        yield made


@pytest.fixture
async def theirs(provider: LabCluster, managers: dict[str, Path], sockets: Path) -> AsyncIterator[World]:
    """The provider."""
    async with opened(provider.admin_kubeconfig, managers[provider.name], sockets / "p") as made:
        yield made
