"""The fabric as pods of real kubelets: installed, used by offloaded pods, and removed, by kubectl alone."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from deploy.lab import shop_image, testing
from deploy.lab.settings import LabSettings
from netfabric.plan.spans import Mapping, span
from netfabric.plan.translation import Translation
from tests import manifests as m
from tests.kubectl import Kubectl, admin, eventually, ready
from tests.lab.fabric import tiers
from tests.lab.fabric.installed import AGENTS, CONSUMER, LONG, PROVIDER, Installed, Json, Side, dial

HTTP, UDP = 8080, 8081
SERVE = ("netexec", f"--http-port={HTTP}", f"--udp-port={UDP}")
LARGE = "x" * 4000
TAKEOVER_SECONDS = 12.0
"""It takes about 3 s, and 15 to 20 s where WireGuard alone notices; the machine may have other things to do."""
DATAGRAM = "x" * 1900
"""More than a packet holds, less than what `agnhost netexec` reads at once."""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    with testing.temporary(LabSettings(alike=True), number=21) as lab:
        made = Installed(lab, tmp_path_factory.mktemp("overlay"))
        made.up(tmp_path_factory.mktemp("kubeconfig"))
        yield made


@dataclass(frozen=True)
class Pair:
    """A namespace of the consumer with a pod of each kind, `here` and `there`, and a Service for each."""

    kubectl: Kubectl
    remote: Kubectl
    """At the provider."""
    here: str
    there: str
    """Addresses, as the consumer shows them."""

    def seen_there(self, name: str) -> str:
        """The address by which the provider's pods find the endpoint of a Service.

        Kubernetes makes a slice of its own there, too; it is empty where the pod is not the provider's.
        """
        found = self.remote.list("endpointslices", f"--selector=kubernetes.io/service-name={name}")
        ((address,),) = (one["addresses"] for part in found for one in part["endpoints"] or ())
        return str(address)


def service(name: str) -> Json:
    ports = [{"name": "http", "port": HTTP}, {"name": "udp", "port": UDP, "protocol": "UDP"}]
    spec = {"selector": {"app": name}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def serving(name: str, node: str) -> Json:
    where = {"kubernetes.io/hostname": node}
    return m.pod(name, m.container("main", *SERVE), nodeSelector=where, metadata={"labels": {"app": name}})


@pytest.fixture(scope="module")
def pair(clusters: Installed) -> Pair:
    """It goes with the last test, while there is who ends what is offloaded."""
    own = clusters.consumer.own
    own.run("wait", "--for=condition=Ready", f"--timeout={LONG:.0f}s", "virtualnode/virtual", timeout=LONG + 10)
    kubectl, remote = admin(clusters.lab.consumer, "pair"), admin(clusters.lab.provider, f"pair-{CONSUMER}")
    kubectl.run("create", "namespace", kubectl.namespace)
    kubectl.wait_for("serviceaccount", "default")
    kind = {"apiVersion": "offloading.isthmus.dev/v1alpha1", "kind": "NamespaceOffloading"}
    kubectl.apply({**kind, "metadata": {"name": "offloading"}, "spec": {}})
    home = clusters.lab.consumer.plan.node_name
    kubectl.apply(service("here"), service("there"), serving("here", home), serving("there", "virtual"))
    here, there = (kubectl.wait_for("pod", name, ready, timeout=LONG)["status"]["podIP"] for name in ("here", "there"))
    for side in (kubectl, remote):
        for name in ("here", "there"):
            eventually(lambda side=side, name=name: _has_endpoints(side, name), what=f"endpoints of {name}")  # type: ignore[misc] # default arguments
    return Pair(kubectl, remote, here, there)


def _has_endpoints(kubectl: Kubectl, name: str) -> bool:
    slices = kubectl.list("endpointslices", f"--selector=kubernetes.io/service-name={name}")
    return any(one["conditions"].get("ready") for found in slices for one in found["endpoints"] or ())


def names(side: Side) -> Translation:
    """From an address in the peer's cluster to what it is in this one."""
    networks = side.own.get("networkpeering", side.peer)["status"]["networks"]
    return Translation(Mapping(span(one["cidr"]), span(one["seenAs"])) for one in networks)


def test_agents_are_pods_with_no_more_rights_than_they_need_and_say_that_all_is_well(clusters: Installed) -> None:
    for side in clusters.sides:
        side.wait_agents()
        status = side.connected()
        assert any((one["type"], one["status"]) == ("Connected", "True") for one in status["conditions"])
        assert {one["seenAs"] for one in status["networks"]}.isdisjoint({one["cidr"] for one in status["networks"]})
        for pod in side.agents.list("pods"):
            rights = [one["securityContext"] for one in pod["spec"]["containers"]]
            assert not pod["spec"].get("initContainers")
            assert [one["capabilities"] for one in rights] == [{"add": ["NET_ADMIN"], "drop": ["ALL"]}]
            assert not any(one.get("privileged") or one["allowPrivilegeEscalation"] for one in rights)
        with ThreadPoolExecutor() as pool:
            all(pool.map(lambda pod, side=side: no_complaints(side, pod), side.agents.list("pods")))


def no_complaints(side: Side, pod: Json) -> str:
    return eventually(lambda: side.status(pod["metadata"]["name"]), what="no complaints")


@pytest.mark.parametrize("ask", ["here", "there"])
def test_pods_reach_each_other_by_address_and_by_name(pair: Pair, clusters: Installed, ask: str) -> None:
    """An offloaded pod's address is what `kubectl get pod` shows; it finds those of its home by their Services."""
    other = "there" if ask == "here" else "here"
    address = pair.there if ask == "here" else pair.seen_there("here")
    for host in (address, other):
        for protocol, port, large in (("http", HTTP, LARGE), ("udp", UDP, DATAGRAM)):
            echo = f"echo?msg={large}" if protocol == "http" else f"echo {large}"
            what = f"{other} to answer at {host} by {protocol}"
            asked = partial(dial, pair.kubectl, ask, f"{host}:{port}", protocol)
            eventually(partial(_answers, asked, "hostname", other), what=what)
            # A datagram may be lost on a busy machine. TCP bears losses, and learns what a path holds: it has one try.
            tries = (echo,) if protocol == "http" else (echo, echo)
            assert any(_answers(asked, request, large) for request in tries), f"larger than a packet, by {protocol}"


def _answers(asked: Callable[[str], Json], request: str, answer: str) -> bool:
    return asked(request) == {"responses": [answer]}


def test_sources_are_the_pods_own(pair: Pair, clusters: Installed) -> None:
    (said,) = dial(pair.kubectl, "here", f"{pair.there}:{HTTP}", "http", "clientip")["responses"]
    assert said.rpartition(":")[0] == names(clusters.provider).address(pair.here)


def connects(kubectl: Kubectl, name: str, address: str) -> bool:
    """Whether a pod reaches the one at an address. Whom nothing answers is not told so, either."""
    command = ("exec", name, "--", "/agnhost", "connect", "--timeout=1s", f"{address}:{HTTP}")
    done = kubectl.result(*command)
    assert not done.returncode or b"TIMEOUT" in done.stderr, done.stderr
    return not done.returncode


def test_a_pod_that_is_not_offloaded_reaches_nothing_and_is_not_reached(pair: Pair, clusters: Installed) -> None:
    """The peerings' policy is the default one, and the asker's own gateway sees to it."""
    other = admin(clusters.lab.provider, "default")
    other.apply(serving("stranger", clusters.lab.provider.plan.node_name))
    stranger = other.wait_for("pod", "stranger", ready)["status"]["podIP"]
    before = [side.refused() for side in clusters.sides]
    assert not connects(pair.kubectl, "here", str(names(clusters.consumer).address(stranger)))
    assert not connects(other, "stranger", pair.seen_there("here"))
    for side, count in zip(clusters.sides, before, strict=True):
        eventually(lambda side=side, count=count: side.refused() > count, what="the gateway's word")  # type: ignore[misc] # default arguments
    other.delete("pod", "stranger", "--wait=false")


def test_the_tiers_of_an_application_work_together_across_clusters(
    pair: Pair, clusters: Installed, tmp_path: Path
) -> None:
    """The front end asks the API there, which asks the database here, each by the name of its Service."""
    home = clusters.lab.consumer.plan.node_name
    with ThreadPoolExecutor() as pool:
        all(pool.map(shop_image.load, (clusters.lab.consumer, clusters.lab.provider)))
    shop = admin(clusters.lab.consumer, "shop")
    nodes = {"web": home, "api": "virtual", "database": home}
    shop.run("apply", "-k", tiers.kustomization(tmp_path / "shop", nodes=nodes))
    front = "/api/v1/namespaces/shop/services/web:http/proxy/"
    # An order is placed once, whatever it takes to have it answered.
    answer = eventually(
        lambda: shop.run("create", "--raw", front, "-f", "-", stdin="order-1"), what="an order", timeout=LONG
    )
    assert "served by web-" in answer
    assert shop.run("get", "--raw", front).startswith("1 ")
    placed = {one["metadata"]["labels"]["app"]: one["spec"]["nodeName"] for one in shop.list("pods")}
    assert placed == nodes
    shop.delete("namespace", "shop", "--wait=false")


@contextmanager
def silence(pair: Pair) -> Iterator[list[float]]:
    """The longest time without an answer from the pod there, which the one here asks ten times a second; at the end."""
    ask = f"/agnhost connect --timeout=500ms {pair.there}:{HTTP} && cut -d' ' -f1 /proc/uptime"
    words = ("timeout", "250", "sh", "-c", f"while sleep 0.1; do {ask}; done")
    process = pair.kubectl.popen("exec", "here", "--", *words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    found: list[float] = []
    try:
        first = process.stdout.readline()
        yield found
    finally:
        process.kill()
        out, _ = process.communicate()
    answers = [float(word) for word in (first + out).split()]
    found.append(max(after - before for before, after in itertools.pairwise(answers)))


@pytest.mark.parametrize("name", [PROVIDER, CONSUMER])
def test_f34_another_gateway_takes_over_from_one_whose_pod_is_deleted(
    pair: Pair, clusters: Installed, name: str
) -> None:
    """At the side that is dialled its Service leads to the other one, too, and peers dial that at once."""
    with silence(pair) as longest:
        _replace_gateway(pair, clusters, name)
    sys.stdout.write(f"the other gateway of the {name} took over within {longest[0]:.1f} s\n")
    assert longest[0] < TAKEOVER_SECONDS


def _replace_gateway(pair: Pair, clusters: Installed, name: str) -> None:
    """Until the other one carries what the pods say to each other."""
    side = clusters.provider if name == PROVIDER else clusters.consumer
    first = side.connected()["connection"]["gateway"]
    side.agents.delete("pod", first)

    def other() -> bool:
        connection = side.own.get("networkpeering", side.peer)["status"]["connection"]
        return connection["state"] == "Connected" and connection["gateway"] not in ("", first)

    eventually(other, what="the other gateway", timeout=LONG)
    for asker, asked in (("here", f"{pair.there}:{HTTP}"), ("there", f"here:{HTTP}")):
        ask = partial(dial, pair.kubectl, asker, asked, "http", "hostname")
        eventually(lambda ask=ask: "responses" in ask(), what=f"an answer from {asked}", timeout=LONG)  # type: ignore[misc] # a default argument


def test_nothing_is_left_on_nodes_after_kubectl_delete(pair: Pair, clusters: Installed) -> None:
    """The last: afterwards there is no fabric."""
    for side in clusters.sides:
        assert side.left(), "there is something to take back"
        refused = side.anywhere.result("delete", "-k", AGENTS, "--dry-run=server")
        assert b"isthmus is in use: NetworkPeerings are left" in refused.stderr
    pair.kubectl.delete("namespace", pair.kubectl.namespace, "shop", "--ignore-not-found", timeout=LONG)
    clusters.unpeer()
    clusters.uninstall()
    for side in clusters.sides:
        assert not side.left()
        assert not side.own.exists("namespace", "isthmus-network")
