"""Many namespaces and several virtual nodes, one of which goes while pods come and go. The remote pods are kwok's.

What happened is read from the audit logs of all API servers (`tests.history`): for each namespace and each virtual
node, nothing may have been lost, doubled or deleted without cause at any moment.
"""

import threading
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from deploy import stack
from deploy.lab.cluster import LabCluster
from deploy.lab.process import wait_until
from tests import history
from tests import manifests as m
from tests.history import Entry, History
from tests.kubectl import Kubectl, admin, eventually, ready
from tests.lab.application.conftest import CONSUMER_ID, LONG, Isthmus, Json

NODES = {"fleet-1": "north", "fleet-2": "north", "fleet-3": "north", "fleet-4": "south"}
GOING = "fleet-2"
NAMESPACES = [f"team-{number:02}" for number in range(20)]
REPLICAS = 3
_QUIET = 2


@dataclass(frozen=True)
class Fleet:
    """The namespaces, the virtual nodes, and where the audit logs stood before."""

    isthmus: Isthmus
    marks: dict[str, int]

    @property
    def admin(self) -> Kubectl:
        return admin(self.isthmus.lab.consumer, "")

    def pods(self) -> list[Json]:
        """All pods of the teams at the consumer."""
        return [p for p in self.admin.list("pods", "-A") if p["metadata"]["namespace"] in NAMESPACES]

    def settled(self) -> bool:
        """Every team has the pods it wants, ready, and none that is about to go."""
        counts: dict[str, int] = defaultdict(int)
        for pod in self.pods():
            if not ready(pod) or "deletionTimestamp" in pod["metadata"]:
                return False
            counts[pod["metadata"]["namespace"]] += 1
        return all(counts[name] == REPLICAS for name in NAMESPACES)

    def histories(self) -> Iterator[tuple[str, History]]:
        """One for each namespace and virtual node."""
        consumer = self._entries(self.isthmus.lab.consumer)
        origins = by_namespace(self.admin.list("pods", "-A"))
        for provider in ("north", "south"):
            cluster = self.isthmus.provider(provider)
            entries = self._entries(cluster)
            remotes = by_namespace(admin(cluster, "default").list("pods", "-A"))
            for node in (name for name, of in NODES.items() if of == provider):
                for namespace in NAMESPACES:
                    remote = f"{namespace}-{CONSUMER_ID}"
                    yield (
                        f"{node}, {namespace}",
                        History(
                            node=node,
                            node_user=f"system:node:{node}",
                            provider_user=stack.provider_user(CONSUMER_ID),
                            consumer=consumer[namespace],
                            provider=entries[remote],
                            origins_left=origins[namespace],
                            remotes_left=remotes[remote],
                        ),
                    )

    def _entries(self, cluster: LabCluster) -> dict[str, list[Entry]]:
        """The audit log since the beginning, complete up to now, by namespace."""
        mark, offset = uuid.uuid4().hex, self.marks[cluster.name]
        annotate = ("annotate", "namespace", "default", "--overwrite", f"test.isthmus.dev/mark={mark}")
        admin(cluster, "default").run(*annotate)

        def written() -> bool:
            with cluster.audit_log.open("rb") as file:
                file.seek(offset)
                return mark.encode() in file.read()

        wait_until(written, what="the audit log", timeout=LONG, every=0.1)
        found: dict[str, list[Entry]] = defaultdict(list)
        for entry in history.read(cluster.audit_log, offset=offset):
            found[entry.namespace].append(entry)
        return found


def by_namespace(pods: Iterable[Json]) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = defaultdict(list)
    for pod in pods:
        found[pod["metadata"]["namespace"]].append(pod)
    return found


@pytest.fixture
def fleet(isthmus: Isthmus) -> Iterator[Fleet]:
    marks = {name: cluster.audit_log.stat().st_size for name, cluster in isthmus.lab.clusters.items()}
    for name, provider in NODES.items():
        isthmus.add(name, provider=provider, nodeSelector={"type": "kwok"})
    kubectl = admin(isthmus.lab.consumer, "")
    try:
        kubectl.apply(*(thing for name in NAMESPACES for thing in team(name)))
        isthmus.wait_ready(*NODES)
        offloaded = ("wait", "--for=condition=Ready", f"--timeout={LONG:.0f}s", "namespaceoffloading", "--all", "-A")
        kubectl.run(*offloaded, timeout=LONG + 10)
        kubectl.apply(*map(workload, NAMESPACES))
        yield Fleet(isthmus, marks)
    finally:
        # Not waited for: they go while other tests run, and nothing may be left when isthmus is taken away.
        kubectl.delete("namespace", "--wait=false", *NAMESPACES)
        kubectl.delete("virtualnode", "--wait=false", "--ignore-not-found", *NODES)


def team(name: str) -> list[Json]:
    """A namespace that is offloaded: its pods go to any virtual node."""
    offloading = {
        "apiVersion": "offloading.isthmus.dev/v1alpha1",
        "kind": "NamespaceOffloading",
        "metadata": {"name": "offloading", "namespace": name},
        "spec": {"podStrategy": "Remote"},
    }
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, offloading]


def workload(namespace: str) -> Json:
    deployment = m.workload("Deployment", "web", replicas=REPLICAS)
    deployment["metadata"]["namespace"] = namespace
    return deployment


@contextmanager
def load(kubectl: Kubectl) -> Iterator[list[int]]:
    """Pods are deleted in one namespace after the other during the block, so that their Deployments make new ones."""
    stop, rounds, failures = threading.Event(), [0], []

    def churn() -> None:
        try:
            while not stop.is_set():
                for name in NAMESPACES:
                    if stop.is_set():
                        return
                    pods = kubectl.run("get", "pods", f"--namespace={name}", "-o", "name").split()
                    kubectl.delete(f"--namespace={name}", "--wait=false", "--ignore-not-found", *pods[:1])
                    rounds[0] += 1
        except Exception as error:  # noqa: BLE001 - told below, by the thread that waits
            failures.append(error)

    thread = threading.Thread(target=churn, name="load")
    thread.start()
    try:
        yield rounds
    finally:
        stop.set()
        thread.join(LONG)
    assert not failures, failures


def test_a_virtual_node_goes_under_load_and_nothing_is_lost(fleet: Fleet) -> None:
    eventually(fleet.settled, what="all teams' pods", timeout=LONG, every=0.5)
    used = {pod["spec"]["nodeName"] for pod in fleet.pods()}
    assert used == set(NODES), f"the scheduler uses every virtual node: {used}"
    with load(fleet.admin) as rounds:
        fleet.admin.delete("virtualnode", GOING, timeout=LONG)
        seen = rounds[0]
        eventually(lambda: rounds[0] > seen + _QUIET, what="some load on what is left", timeout=LONG)
    assert not fleet.admin.exists("node", GOING)
    eventually(fleet.settled, what="all teams' pods again", timeout=LONG, every=0.5)
    assert {pod["spec"]["nodeName"] for pod in fleet.pods()} == set(NODES) - {GOING}

    violations, moved = [], 0
    for what, found in fleet.histories():
        try:
            found.check()
        except AssertionError as error:
            violations.append(f"{what}: {error}")
        moved += len(found.remotes())
    assert not violations, "\n".join(violations)
    assert moved > len(NAMESPACES) * REPLICAS, "the logs have the pods that went and came"
