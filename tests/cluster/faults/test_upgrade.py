"""An earlier version is exchanged for this one, and back, while pods come and go."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy import stack
from deploy.lab.lab import Lab
from deploy.lab.paths import ROOT
from tests.cluster.faults import earlier
from tests.cluster.faults.conftest import node_of, world_of
from tests.cluster.faults.world import CONSUMER_ID, World

STEADY = tuple(f"steady-{number}" for number in range(5))
KEPT = 10
"""Pods of the load that are there at a time."""
READS = ("get", "list", "watch")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return earlier.extracted(tmp_path_factory.mktemp("earlier"))


@pytest.fixture
def world(lab: Lab, old: Path) -> Iterator[World]:
    """The world of a node that an earlier version runs."""
    started = stack.start(lab, node="upgraded", consumer_id=CONSUMER_ID, source=old)
    with node_of(started) as node, world_of(lab, node, {}) as made:
        yield made


@contextmanager
def load(world: World) -> Iterator[list[str]]:
    """Pods are made and deleted all the time; gives the names of those made, in order."""
    made: list[str] = []
    stop = threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for number in itertools.count():
                world.create(f"load-{number}")
                made.append(f"load-{number}")
                if number >= KEPT:
                    world.delete(f"load-{number - KEPT}")
                if stop.wait(0.2):
                    return
        except BaseException as error:  # noqa: BLE001 - raised below, in the test's thread
            errors.append(error)

    thread = threading.Thread(target=work, name="load")
    thread.start()
    try:
        yield made
    finally:
        stop.set()
        thread.join(60)
    if errors:
        raise errors[0]


def exchanged(world: World, source: Path, made: list[str]) -> None:
    """The other version runs, and has taken up what came meanwhile."""
    stack.exchange(world.node, source)
    seen = len(made)

    def taken_up() -> bool:
        new = set(made[seen:])
        return any(pod["metadata"]["name"] in new and pod["status"].get("phase") == "Running" for pod in world.pods())

    world.until(taken_up, what="what came meanwhile to run")
    world.until(lambda: len(made) >= seen + 2 * KEPT, what="more load")
    world.node.wait_ready()


def test_f38_i1_i4_versions_are_exchanged_under_load_and_no_pod_notices(world: World, old: Path) -> None:
    """By what both API servers recorded: nothing restarts, is renamed, deleted without cause or made anew."""
    path = f"/api/v1/namespaces/{world.namespace}"
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "b"}}
    world.consumer.request("POST", f"{path}/configmaps", body=settings)
    container = {"name": "main", "image": "none:1", "envFrom": [{"configMapRef": {"name": "settings"}}]}
    world.running(*STEADY, containers=[container])
    before = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in world.remotes()}
    copied = world.provider.request("GET", f"/api/v1/namespaces/{world.remote_namespace}/configmaps/settings")
    with load(world) as made:
        assert source_of(world) == old
        for source in (ROOT, old, ROOT):
            exchanged(world, source, made)
            assert source_of(world) == source
    world.until_gone(*made[:-KEPT])
    world.until_phase(*STEADY, *made[-KEPT:])

    history = world.check()
    assert {name: before[name] for name in STEADY} == {name: remote_uid(world, name) for name in STEADY}
    for name in STEADY:
        (life,) = history.remotes_of(world.uid(name))
        assert not life.deletions
        assert world.restarts(name) == 0
    for origin in history.origins():
        assert len(history.remotes_of(origin.uid)) <= 1, f"{origin} was run again"
    now = world.provider.request("GET", f"/api/v1/namespaces/{world.remote_namespace}/configmaps/settings")
    assert now["metadata"]["uid"] == copied["metadata"]["uid"]
    user = stack.provider_user(CONSUMER_ID)
    others = [e for e in history.provider if e.user == user and e.resource != "pods" and e.verb not in READS]
    assert not [str(e) for e in others if e.verb == "delete" and e.done]


def remote_uid(world: World, name: str) -> str:
    remote = world.remote(name)
    assert remote is not None
    uid: str = remote["metadata"]["uid"]
    return uid


def source_of(world: World) -> Path:
    """Where the running process has its program from."""
    environment = Path(f"/proc/{world.node.unit.pid}/environ").read_bytes().split(b"\0")
    return Path(next(line for line in environment if line.startswith(b"PYTHONPATH=")).decode().partition("=")[2])
