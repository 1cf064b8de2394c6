"""The shop of `deploy/examples/shop` with all its parts: users, a database that keeps its data, a cron job's job."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from deploy.lab import shop_image
from deploy.lab.lab import Lab
from deploy.lab.paths import ROOT
from tests.kubectl import Kubectl, admin, eventually, ready
from tests.lab.application.conftest import CONSUMER_ID, LONG, PROVIDERS, Isthmus, Json
from tests.lab.application.load import traffic

SHOP = ROOT / "deploy/examples/shop"
NODES = {"north-1": "north", "north-2": "north", "south-1": "south"}
CLASSES = {"storage": [{"consumer": "isthmus", "provider": "local-path"}]}


@dataclass(frozen=True)
class Shop:
    """The shop while it stands."""

    lab: Lab
    kubectl: Kubectl
    """At the consumer, in its namespace."""

    @property
    def address(self) -> str:
        """Of the consumer's ingress controller."""
        return self.lab.consumer.plan.site.ip

    def pods(self, app: str = "") -> list[Json]:
        """Its pods, or one tier's, that are not about to go; jobs' pods are left out."""
        found = self.kubectl.list("pods", "--selector", f"app={app}" if app else "app in (web, api, database)")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def nodes(self, app: str = "") -> set[str]:
        return {pod["spec"].get("nodeName", "") for pod in self.pods(app)}

    def settled(self) -> bool:
        """Every tier is there and ready."""
        found = self.pods()
        tiers = {pod["metadata"]["labels"]["app"] for pod in found}
        return tiers == {"web", "api", "database"} and all(map(ready, found))

    def wait_settled(self) -> None:
        eventually(self.settled, what="the shop", timeout=LONG, every=0.3)

    def orders(self) -> set[str]:
        """What the database has."""
        told = self.kubectl.run("exec", "database-0", "--", "/usr/bin/redis-cli", "smembers", "orders")
        return set(told.split())

    def report(self, name: str) -> str:
        """Run the cron job's job now; what it says."""
        self.kubectl.run("create", "job", name, "--from=cronjob/report")
        self.kubectl.run("wait", "--for=condition=Complete", f"job/{name}", "--timeout=90s", timeout=100)
        return self.kubectl.run("logs", f"job/{name}").strip()


@pytest.fixture(scope="module")
def providers(isthmus: Isthmus) -> Isthmus:
    """Two providers, with two virtual nodes of one and one of the other."""
    for cluster in isthmus.lab.clusters.values():
        shop_image.load(cluster)
    for name, provider in NODES.items():
        isthmus.add(
            name,
            provider=provider,
            nodeSelector={"kubernetes.io/hostname": f"{PROVIDERS[provider]}-node"},
            classes=CLASSES,
        )
    isthmus.wait_ready(*NODES)
    return isthmus


@contextmanager
def shop(isthmus: Isthmus, folder: str) -> Iterator[Shop]:
    """The shop as its folder says, until the end of the block; then nothing of it is left anywhere."""
    kubectl = admin(isthmus.lab.consumer, "shop")
    made = Shop(isthmus.lab, kubectl)
    try:
        kubectl.run("apply", "-k", str(SHOP / folder), timeout=180)
        made.wait_settled()
        yield made
    finally:
        kubectl.run("delete", "-k", str(SHOP / folder), "--ignore-not-found", timeout=180)
    for provider in PROVIDERS:
        there = admin(isthmus.provider(provider), f"shop-{CONSUMER_ID}")
        assert not there.exists("namespace", there.namespace)
        assert not [v for v in there.list("pv") if v["spec"]["claimRef"]["namespace"] == there.namespace]


def test_the_shop_runs_here_and_keeps_its_data(providers: Isthmus) -> None:
    with shop(providers, "local") as it:
        assert it.nodes() == {"consumer-node"}
        with traffic(it.address) as users:
            eventually(lambda: len(users.confirmed()) >= 20, what="orders", timeout=LONG)
        assert it.orders() >= users.confirmed()
        before = it.orders()
        it.kubectl.run("delete", "pod", "database-0")
        it.wait_settled()
        assert it.orders() == before, "the database finds its volume again"
        assert it.report("check") == f"{len(before)} orders"
