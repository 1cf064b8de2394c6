"""Three whole clusters whose pods reach one another, isthmus as a user installs it, and short words for its objects."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from deploy import stack
from deploy.lab import isthmus_image, testing
from deploy.lab.cluster import LabCluster
from deploy.lab.lab import Lab
from deploy.lab.paths import ROOT
from deploy.lab.settings import LabSettings
from tests.kubectl import Kubectl, admin
from tests.lab.uninstall import uninstall

Json = dict[str, Any]

CONSUMER_ID = "consumer"
MANIFESTS = str(ROOT / "deploy/manager/consumer")
LONG = 120.0
PROVIDERS = {"north": "provider", "south": "provider-2"}
"""Short name of each provider, and its cluster in the lab."""
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test pays for the lab. Those that install isthmus themselves come first, for the others share one."""
    ours = [item for item in items if _HERE in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.timeout(500))
    ordered = iter(sorted(ours, key=_shares))
    items[:] = [next(ordered) if _HERE in item.path.parents else item for item in items]


def _shares(item: pytest.Item) -> bool:
    return "isthmus" in getattr(item, "fixturenames", ())


@pytest.fixture(scope="package")
def lab() -> Iterator[Lab]:
    settings = LabSettings(providers=2, kwok=2, flat=True, apps=True, audit="RequestResponse")
    with testing.temporary(settings, number=16) as made:
        isthmus_image.load(made.consumer)
        yield made


@dataclass(frozen=True)
class Isthmus:
    """isthmus installed at the consumer, with the credentials of two providers."""

    lab: Lab
    kubectl: Kubectl
    """In isthmus' own namespace."""

    def provider(self, name: str) -> LabCluster:
        """The cluster of `north` or `south`."""
        return self.lab.clusters[PROVIDERS[name]]

    def add(self, name: str, *, provider: str, **spec: Any) -> None:
        """Make a VirtualNode and do not wait for it."""
        self.kubectl.apply(virtual_node(name, provider=provider, **spec))

    def wait_ready(self, *names: str) -> None:
        """Until these VirtualNodes are Ready."""
        nodes = [f"virtualnode/{name}" for name in names]
        self.kubectl.run("wait", "--for=condition=Ready", f"--timeout={LONG:.0f}s", *nodes, timeout=LONG + 10)


def virtual_node(name: str, *, provider: str, **spec: Any) -> Json:
    return {
        "apiVersion": "offloading.isthmus.dev/v1alpha1",
        "kind": "VirtualNode",
        "metadata": {"name": name},
        "spec": {
            "provider": provider,
            "kubeconfigSecret": {"name": provider},
            "resources": {"cpu": "8", "memory": "16Gi", "pods": 200},
            **spec,
        },
    }


def admit(lab: Lab, kubectl: Kubectl, folder: Path) -> None:
    """Both providers let the consumer in, and the consumer gets their kubeconfigs as Secrets."""
    for name, cluster in PROVIDERS.items():
        stack.grant(lab.clusters[cluster], consumer_id=CONSUMER_ID)
        stack.elect(lab.clusters[cluster], consumer_id=CONSUMER_ID)
        file = lab.clusters[cluster].client_kubeconfig(stack.provider_user(CONSUMER_ID), path=folder / name)
        kubectl.run("create", "secret", "generic", name, f"--from-file=kubeconfig={file}")


@pytest.fixture(scope="package")
def isthmus(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Isthmus]:
    """As `kubectl apply -k` installs it; nothing of it stays."""
    kubectl = admin(lab.consumer, "isthmus")
    try:
        kubectl.run("apply", "--server-side", "-k", MANIFESTS)
        admit(lab, kubectl, tmp_path_factory.mktemp("kubeconfigs"))
        available = ("wait", "--for=condition=Available", f"--timeout={LONG:.0f}s")
        kubectl.run(*available, "deployment/isthmus-manager", timeout=LONG + 10)
        yield Isthmus(lab, kubectl)
    finally:
        remove(lab, kubectl)


def _without_offloadings(kubectl: Kubectl) -> None:
    """Not by `--all-namespaces`: kubectl's deletions know no such flag beside the namespace that it is told."""
    names = "jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name} {end}"
    found = kubectl.run("get", "namespaceoffloadings", "--all-namespaces", "-o", names).split()
    left = [(replace(kubectl, namespace=one.partition("/")[0]), one.partition("/")[2]) for one in found]
    for inside, name in left:
        inside.delete("namespaceoffloading", name, "--wait=false")
    for inside, name in left:
        inside.wait_gone("namespaceoffloading", name, timeout=180)


def remove(lab: Lab, kubectl: Kubectl) -> None:
    """First what isthmus has to take back, then isthmus."""
    if kubectl.exists("crd", "virtualnodes.offloading.isthmus.dev"):
        _without_offloadings(kubectl)
    uninstall(kubectl, MANIFESTS)
    for cluster in PROVIDERS.values():
        admin(lab.clusters[cluster], "default").delete("namespace", f"isthmus-{CONSUMER_ID}", "--ignore-not-found")
