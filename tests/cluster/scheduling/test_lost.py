"""A provider that goes away: its pods are kept, or replaced, and nothing runs twice when it is back.

Two virtual nodes share the provider. One loses it, as if the provider were gone; the other one stands for "elsewhere",
which is the harder case: at the provider a successor has the same namespace, and maybe the same name.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from deploy import stack
from deploy.lab.cluster import LabCluster
from deploy.lab.faults import Faults
from deploy.lab.lab import Lab
from reflection.scheduling import names, tolerance
from reflection.scheduling.lost import EVENT
from tests.cluster.scheduling.conftest import Space
from tests.cluster.scheduling.managing import CONSUMER_ID, PROVIDER, Background, binding
from tests.cluster.scheduling.waiting import LONG, Json
from tests.kubectl import Kubectl, admin, eventually

LOST, OTHER = "lost-1", "lost-2"
SELECTED: Json = {"nodeSelector": {"type": "virtual-kubelet"}, "tolerations": [names.TOLERATION]}
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"


@pytest.fixture(scope="module")
def nodes(lab: Lab, with_kinds: LabCluster) -> Iterator[dict[str, stack.VirtualNode]]:
    stack.grant(lab.provider, consumer_id=CONSUMER_ID)
    kubectl = admin(with_kinds, "default")
    for name in ("consumer-offloadings", "consumer-kinds"):
        kubectl.run("apply", "--server-side", "-f", str(stack.RBAC / f"{name}.yaml"))
    made = {}
    for name in (LOST, OTHER):
        kubectl.apply(binding("isthmus-namespace-offloadings", f"system:node:{name}", name=f"test-offloadings-{name}"))
        options = ["--namespaces-from-objects", f"--provider={PROVIDER}", "--reference-linger=1"]
        made[name] = stack.start(lab, node=name, consumer_id=CONSUMER_ID, options=options)
    for node in made.values():
        node.wait_ready()
    yield made
    for node in made.values():
        node.unit.check_alive()
        node.unit.stop()
        kubectl.delete("node", node.name, "--ignore-not-found")


@dataclass(frozen=True)
class Shop:
    """An offloaded namespace, and both sides of it."""

    here: Space
    there: Kubectl
    lost: stack.VirtualNode
    faults: Faults

    def deploy(self, kind: str, name: str, *, replicas: int) -> None:
        """A workload of pods that only virtual nodes can run."""
        labels = {"app": name}
        container = {"name": "main", "image": "isthmus.dev/none:1"}
        template = {
            "metadata": {"labels": labels},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 1, **SELECTED},
        }
        spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
        named = {"serviceName": name} if kind == "StatefulSet" else {}
        self.here.kubectl.create(
            {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": {**spec, **named}}
        )

    def pods(self, name: str, *, side: Kubectl | None = None) -> Sequence[Json]:
        return (side or self.here.kubectl).list("pods", "-l", f"app={name}")

    def until_running(self, name: str, *, many: int) -> list[str]:
        """UIDs of a workload's pods once so many run and are ready, in the order of their names."""

        def running() -> list[Json]:
            found = [pod for pod in self.pods(name) if _ready(pod) and not pod["metadata"].get("deletionTimestamp")]
            return found if len(found) == many else []

        found = eventually(running, what=f"{many} pods of {name} to run", timeout=LONG)
        return [pod["metadata"]["uid"] for pod in sorted(found, key=lambda pod: pod["metadata"]["name"])]

    def remote_of(self, name: str) -> dict[str, str]:
        """UID of the remote pods of a workload, by the UID of the consumer's."""
        origin = "offloading.isthmus.dev/origin-uid"
        remote = self.pods(name, side=self.there)
        return {pod["metadata"]["annotations"][origin]: pod["metadata"]["uid"] for pod in remote}

    def lose(self) -> None:
        """Cut the first node off; the second one may take pods from now on."""
        self.faults.cut(LOST, "provider")
        eventually(lambda: self.lost.condition()["status"] == "False", what="the node to be unready", timeout=LONG)
        self.here.kubectl.run("uncordon", OTHER)

    def find(self) -> None:
        """Undo it."""
        self.faults.mend(LOST, "provider")
        self.lost.wait_ready()

    def until_told(self, reason: str, *, says: str = "") -> Json:
        def told() -> Json | None:
            found = self.here.offloading().get("status", {}).get("conditions") or []
            fitting = (one for one in found if one["type"] == "ProvidersReachable" and one["reason"] == reason)
            return next((one for one in fitting if says in one["message"]), None)

        return eventually(told, what=f"ProvidersReachable {reason} {says}", timeout=LONG) or {}

    def said_of(self, pod: str) -> list[str]:
        """What events of a lost provider say on a pod."""
        found = self.here.kubectl.list("events", "--field-selector", f"involvedObject.name={pod},reason={EVENT}")
        return [one["message"] for one in found]


def _ready(pod: Json) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


@pytest.fixture
def shop(space: Space, nodes: dict[str, stack.VirtualNode], controller: Background, faults: Faults) -> Iterator[Shop]:
    """A namespace whose first pods all go to the node that will be cut off."""
    kubectl = space.kubectl
    kubectl.run("cordon", OTHER)
    there = admin(nodes[LOST].provider, f"{space.name}-{CONSUMER_ID}")
    yield Shop(space, there, nodes[LOST], faults)
    faults.heal()
    nodes[LOST].wait_ready()
    kubectl.run("uncordon", OTHER)
    kubectl.run("taint", "node", LOST, f"{OUT_OF_SERVICE}-") if _tainted(kubectl) else None
    there.delete("namespace", there.namespace, "--ignore-not-found", "--wait=false")


def _tainted(kubectl: Kubectl) -> bool:
    taints = kubectl.get("node", LOST)["spec"].get("taints") or ()
    return any(one["key"] == OUT_OF_SERVICE for one in taints)


def _lasting(pod: Json) -> bool:
    """Whether Kubernetes leaves the pod on an unready node for ever."""
    return tolerance.loosened(pod["spec"].get("tolerations")) is None and not any(
        one.get("tolerationSeconds") for one in pod["spec"]["tolerations"]
    )


def test_i1_pods_of_a_lost_provider_are_kept_by_default(shop: Shop) -> None:
    shop.here.offload(podStrategy="LocalAndRemote")
    shop.deploy("Deployment", "web", replicas=2)
    impatient: dict[str, Any] = {"key": tolerance.TAINTS[0], "effect": "NoExecute", "tolerationSeconds": 1}
    tolerations = [names.TOLERATION, {"operator": "Exists", **impatient}]
    shop.here.pod("impatient", terminationGracePeriodSeconds=1, **{**SELECTED, "tolerations": tolerations})
    shop.here.kubectl.wait_for("pod", "impatient", _ready, timeout=LONG)
    before = shop.until_running("web", many=2)
    remote = shop.remote_of("web")
    eventually(lambda: all(map(_lasting, shop.pods("web"))), what="the pods to outlast outages", timeout=LONG)

    shop.lose()
    told = shop.until_told("PodsKept")
    assert LOST in told["message"]
    # Kubernetes' own eviction works, and spares the others.
    evicted = shop.here.kubectl.wait_for("pod", "impatient", lambda pod: "deletionTimestamp" in pod["metadata"])
    assert evicted["metadata"]["deletionTimestamp"]
    there = shop.pods("web")
    assert sorted(pod["metadata"]["uid"] for pod in there) == sorted(before)
    assert not any("deletionTimestamp" in pod["metadata"] for pod in there)

    shop.find()
    shop.until_told("Reachable")
    shop.here.kubectl.wait_gone("pod", "impatient")
    assert shop.until_running("web", many=2) == before, "ready again, though Kubernetes had said they were not"
    assert shop.remote_of("web") == remote


def test_i2_pods_are_replaced_where_asked_and_names_and_data_are_not(shop: Shop) -> None:
    shop.here.offload(podStrategy="Remote", providerLost={"policy": "Replace", "after": "3s"})
    shop.deploy("Deployment", "web", replicas=2)
    shop.deploy("StatefulSet", "db", replicas=1)
    web, db = shop.until_running("web", many=2), shop.until_running("db", many=1)
    old = {pod["metadata"]["name"] for pod in shop.pods("web")}
    remote_db = shop.remote_of("db")

    shop.lose()
    told = shop.until_told("PodsReplaced", says="kept are db-0")
    assert f"{LOST} lost the provider for 3s" in told["message"]
    fresh = shop.until_running("web", many=2)
    assert not set(fresh) & set(web)
    states = {pod["metadata"]["uid"]: pod for pod in shop.pods("web")}
    assert all("deletionTimestamp" in states[uid]["metadata"] for uid in web), "not forgotten while they may run"
    assert [pod["metadata"]["uid"] for pod in shop.pods("db")] == db
    assert "deletionTimestamp" not in shop.pods("db")[0]["metadata"]
    for name, says in (*((name, "is deleted") for name in old), ("db-0", "a StatefulSet's pod")):
        eventually(lambda name=name, says=says: any(says in one for one in shop.said_of(name)), what=f"event of {name}")  # type: ignore[misc]  # default arguments

    shop.find()
    for name in old:
        shop.here.kubectl.wait_gone("pod", name)
    eventually(lambda: set(shop.remote_of("web")) == set(fresh), what="the old remote pods to be gone", timeout=LONG)
    assert shop.until_running("db", many=1) == db
    assert shop.remote_of("db") == remote_db
    shop.until_told("Reachable")


def test_i2_a_successor_by_the_out_of_service_taint_waits_for_its_predecessor(shop: Shop) -> None:
    """Kubernetes' own way to say that a node is off; we never believe it of what is at the provider."""
    kubectl = shop.here.kubectl
    shop.here.offload(podStrategy="Remote")
    shop.deploy("StatefulSet", "db", replicas=1)
    (old,) = shop.until_running("db", many=1)
    remote = shop.remote_of("db")[old]
    shop.lose()
    kubectl.run("taint", "node", LOST, f"{OUT_OF_SERVICE}=nodeshutdown:NoExecute")

    def succeeded() -> bool:
        return any(pod["spec"].get("nodeName") == OTHER for pod in shop.pods("db"))

    eventually(succeeded, what="a successor on the other node", timeout=2 * LONG)
    kubectl.run("taint", "node", LOST, f"{OUT_OF_SERVICE}-")
    assert shop.remote_of("db") == {old: remote}
    assert not any(map(_ready, shop.pods("db"))), "it must not run beside the old one"

    shop.find()
    # Not always the first successor: Kubernetes' eviction for taints deletes by name, and asks again when it is told
    # that there is none of it (tainteviction/taint_eviction.go), which may be the successor by then.
    (new,) = shop.until_running("db", many=1)
    assert new != old
    assert set(shop.remote_of("db")) == {new}
