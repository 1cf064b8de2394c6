"""What each credential can do, as API servers see it, next to docs/rights.md."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from deploy import rights, stack
from deploy.lab.cluster import LabCluster
from deploy.lab.lab import Lab
from tests.abilities import can
from tests.cluster.identity.conftest import LONG, Peering
from tests.cluster.identity.test_tenancy import entered
from tests.kubectl import Kubectl, eventually

Json = dict[str, Any]


def nobody(cluster: LabCluster, folder: Path) -> Kubectl:
    """Somebody who has an account and no role."""
    file = cluster.client_kubeconfig("nobody-in-particular", path=folder / "nobody")
    return Kubectl(cluster.plan.binaries / "kubectl", file)


def test_a20_a_consumer_can_do_what_the_page_says_and_nothing_else(lab: Lab, peering: Peering, tmp_path: Path) -> None:
    own = entered(peering)
    common = can(nobody(lab.provider, tmp_path))
    desk = replace(own, namespace="isthmus-shop")
    assert can(desk) - common == rights.of("provider", "consumer", rights.TENANT)
    mapped = rights.of("provider", "consumer", rights.MAPPED)
    eventually(lambda: can(own) - common == mapped, what="its rights in its namespace", timeout=LONG)
    for other in ("default", "kube-system", "isthmus", "isthmus-other"):
        assert can(replace(own, namespace=other)) - common == set(), other


def test_a20_managers_can_do_what_the_page_says_and_nothing_else(lab: Lab, peering: Peering, tmp_path: Path) -> None:
    peering.exchange()
    everywhere = rights.of("provider", "manager", rights.CLUSTER)
    common = can(nobody(lab.provider, tmp_path))
    file = lab.provider.client_kubeconfig(stack.MANAGER_USER, path=tmp_path / "manager")
    manager = Kubectl(lab.provider.plan.binaries / "kubectl", file)
    for namespace, here in (("isthmus-shop", rights.TENANT), ("isthmus", rights.OWN), ("default", "")):
        found = can(replace(manager, namespace=namespace)) - common
        assert found == everywhere | rights.of("provider", "manager", here), namespace
