"""The shop of `deploy/examples/shop`, offloaded in each strategy, used while things happen to it.

What users lost is printed, and stands in docs/shop.md. That nothing is lost where nothing needs to be is asserted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import yaml

from deploy.lab import shop_image
from deploy.lab.faults import API_SERVER, Faults
from deploy.lab.lab import Lab
from deploy.lab.paths import ROOT
from tests.kubectl import Kubectl, admin, eventually, ready
from tests.lab.application.conftest import CONSUMER_ID, LONG, PROVIDERS, Isthmus, Json
from tests.lab.application.load import Traffic, traffic

SHOP = ROOT / "deploy/examples/shop"
NODES = {"north-1": "north", "north-2": "north", "south-1": "south"}
AWAY, AWAY_NODE = "provider-2", "south-1"
"""The provider that goes away, and its virtual node."""
QUIET, AGAIN = "nothing happens", "nothing happens any more"
SCALED = "the front end is scaled to 6, rolled, scaled to 3"
MUTE = "a provider's API server is gone"
CUT = "that provider is cut off"
CALM = 60
"""Requests before anything happens."""
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
        # One that came too early for the database has failed, and the job has tried again.
        pods = self.kubectl.list("pods", "--selector", f"job-name={name}", "--field-selector=status.phase=Succeeded")
        return self.kubectl.run("logs", pods[0]["metadata"]["name"]).strip()


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
def shop(isthmus: Isthmus, folder: str, *, without: str = "") -> Iterator[Shop]:
    """The shop as its folder says, until the end of the block; then nothing of it is left anywhere.

    It is begun `without` a node, on which its volume is not to be.
    """
    kubectl = admin(isthmus.lab.consumer, "shop")
    made = Shop(isthmus.lab, kubectl)
    try:
        if without:
            kubectl.run("cordon", without)
        declare(kubectl, folder)
        kubectl.run("apply", "-k", str(SHOP / folder), timeout=180)
        made.wait_settled()
        if without:
            kubectl.run("uncordon", without)
        yield made
    finally:
        kubectl.delete("-k", str(SHOP / folder), "--ignore-not-found", timeout=180)
    for provider in PROVIDERS:
        there = admin(isthmus.provider(provider), f"shop-{CONSUMER_ID}")
        assert not there.exists("namespace", there.namespace)
        assert not [v for v in there.list("pv") if v["spec"]["claimRef"]["namespace"] == there.namespace]


def declare(kubectl: Kubectl, folder: str) -> None:
    """The namespace before what is in it, so that no pod is made too early to be offloaded."""
    made = yaml.safe_load_all(kubectl.run("kustomize", str(SHOP / folder)))
    kubectl.apply(*(one for one in made if one["kind"] in ("Namespace", "NamespaceOffloading")))
    wanted = ("Ready", "SchedulingEnabled") if folder != "local" else ("Ready",)
    for condition in wanted:
        waits = ("wait", f"--for=condition={condition}", "--timeout=90s")
        kubectl.run(*waits, "namespaceoffloading/offloading", timeout=100)


@pytest.mark.parametrize(("folder", "where"), [("local", {"consumer-node"}), ("remote", set(NODES))])
def test_the_shop_runs_where_its_strategy_says_and_keeps_its_data(
    providers: Isthmus, folder: str, where: set[str]
) -> None:
    with shop(providers, folder) as it:
        assert it.nodes() <= where
        with traffic(it.address) as users:
            eventually(lambda: len(users.confirmed()) >= 20, what="orders", timeout=LONG)
        assert it.orders() >= users.confirmed()
        before = it.orders()
        it.kubectl.delete("pod", "database-0")
        it.wait_settled()
        assert it.orders() == before, "the database finds its volume again"
        assert it.report("check") == f"{len(before)} orders"


def test_the_shop_goes_on_while_it_is_scaled_drained_and_cut_off(
    providers: Isthmus, lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = Faults(lab)
    try:
        # The database has to have another node to go to, at the provider that has its volume.
        with shop(providers, "local-and-remote", without=AWAY_NODE) as it:
            assert it.nodes("database") <= {name for name, of in NODES.items() if of == "north"}
            with traffic(it.address) as users:
                things_happen(it, users, faults)
            with capsys.disabled():
                print(f"\n{users.table()}\n{users.losses()}")  # noqa: T201 - the figures that docs/shop.md states
            check(it, users)
    finally:
        faults.heal()


def things_happen(it: Shop, users: Traffic, faults: Faults) -> None:
    """Each for as long as it takes, with users meanwhile."""
    with users.during(QUIET):
        served(users, CALM)
    with users.during(SCALED):
        scale(it, 6)
        it.kubectl.run("rollout", "restart", "deployment/web")
        rolled_out(it)
        scale(it, 3)
    hpa = eventually(lambda: scaled_out(it), what="the autoscaler to see the load", timeout=LONG, every=1.0)
    assert hpa["status"]["currentMetrics"]
    home = it.nodes("database").pop()
    with users.during("the database's node is drained"):
        it.kubectl.run("drain", home, "--ignore-daemonsets", "--timeout=120s", timeout=130)
        it.wait_settled()
    assert it.nodes("database") == {other(home)}, "another node of the provider that has its volume"
    it.kubectl.run("uncordon", home)
    assert AWAY_NODE in it.nodes(), "something runs at the provider that goes away"
    with users.during(MUTE), faults.killed(AWAY, API_SERVER):
        it.kubectl.wait_for("node", AWAY_NODE, lambda node: not ready(node), timeout=LONG)
        served(users)
    it.kubectl.wait_for("node", AWAY_NODE, ready, timeout=LONG)
    it.wait_settled()
    with users.during(CUT), faults.link_cut("consumer", AWAY), faults.link_cut("provider", AWAY):
        it.kubectl.wait_for("node", AWAY_NODE, lambda node: not ready(node), timeout=LONG)
        served(users)
    it.kubectl.wait_for("node", AWAY_NODE, ready, timeout=LONG)
    it.wait_settled()
    with users.during(AGAIN):
        served(users)
    eventually(lambda: cron_ran(it), what="the cron job", timeout=LONG, every=1.0)


def check(it: Shop, users: Traffic) -> None:
    kept = it.orders()
    assert users.confirmed() <= kept, "no order that was confirmed is lost"
    assert kept <= users.placed(), "and none was made up"
    # A machine that is busy with other things may be late for one request in fifty, but not for more.
    for phase in (QUIET, SCALED, MUTE, AGAIN):
        lost = users.lost(phase)
        assert len(lost) * 50 <= sum(one.phase == phase for one in users.done) + 50, (phase, lost[:5])


def scale(it: Shop, replicas: int) -> None:
    it.kubectl.run("scale", "deployment/web", f"--replicas={replicas}")
    rolled_out(it)


def rolled_out(it: Shop) -> None:
    it.kubectl.run("rollout", "status", "deployment/web", "--timeout=120s", timeout=130)
    eventually(lambda: all(map(ready, it.pods("web"))), what="all front ends", timeout=LONG)


def scaled_out(it: Shop) -> Json:
    """The autoscaler once it wants more pods than the least; metrics of offloaded pods come by the kubelet API."""
    found = it.kubectl.get("hpa", "api")
    return found if found.get("status", {}).get("desiredReplicas", 0) > found["spec"]["minReplicas"] else {}


def other(node: str) -> str:
    """The other virtual node of the same provider."""
    return next(name for name, of in NODES.items() if of == NODES[node] and name != node)


def served(users: Traffic, requests: int = 40) -> None:
    """Until some more requests were answered."""
    target = len(users.done) + requests
    eventually(lambda: len(users.done) >= target, what="more requests", timeout=LONG)


def cron_ran(it: Shop) -> bool:
    """Whether the cron job's own clock has made a job that ended well."""
    return any(
        job["metadata"].get("ownerReferences", [{}])[0].get("kind") == "CronJob"
        and job.get("status", {}).get("succeeded")
        for job in it.kubectl.list("jobs")
    )
