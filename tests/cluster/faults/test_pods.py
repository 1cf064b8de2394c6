"""Faults of single pods: deleted behind our back, replaced by a namesake, or poisoned."""

import base64
import itertools
from functools import partial
from math import inf

import pytest

from deploy.lab.proxy import rules
from deploy.lab.proxy.rules import AlterEvents, Event
from tests.cluster.faults.world import DELAY, MERGE, Json, World


def test_f29_i2_a_namesake_waits_until_its_predecessor_is_gone(spoiled: World) -> None:
    spoiled.running("a")
    old = spoiled.uid("a")
    # Something at the provider takes its time to let go, as containers do that are slow to stop.
    hold = {"metadata": {"finalizers": ["test.isthmus.dev/slow"]}}
    spoiled.provider.request("PATCH", spoiled.remote_path("a"), body=hold, content_type=MERGE)
    # Asleep meanwhile, the node sees nothing of the change but another UID.
    spoiled.node.unit.pause()
    spoiled.delete("a", grace=0)
    spoiled.create("a")
    new = spoiled.uid("a")
    assert new != old
    spoiled.node.unit.resume()
    spoiled.until(lambda: "deletionTimestamp" in (spoiled.remote("a") or {})["metadata"], what="the deletion")
    assert spoiled.history().remotes_of(new) == []
    let_go = {"metadata": {"finalizers": None}}
    spoiled.provider.request("PATCH", spoiled.remote_path("a"), body=let_go, content_type=MERGE)
    spoiled.until_phase("a")
    history = spoiled.check()
    (before,), (after,) = history.remotes_of(old), history.remotes_of(new)
    assert before.ended <= after.began


def test_f27_i2_deleted_by_hand_it_is_made_again_once(spoiled: World) -> None:
    spoiled.held_running("a", restarts=2)
    spoiled.provider.request("DELETE", spoiled.remote_path("a"))
    uid = spoiled.uid("a")
    spoiled.until(lambda: len(spoiled.history().remotes_of(uid)) == 2, what="the second remote pod")
    spoiled.set_remote_status("a")
    spoiled.until_restarts("a", 3)
    history = spoiled.check()
    assert len(history.remotes_of(uid)) == 2


def test_f27_i1_a_remote_pod_that_comes_and_goes_unseen_is_made_again(spoiled: World) -> None:
    spoiled.running("before")
    path = f"/{spoiled.remote_namespace}/pods"
    unseen = spoiled.provider_proxy.add(rules.Refuse(), path=f"{path}$", verb="watch")
    spoiled.provider_proxy.break_watches(path=path)
    spoiled.until(lambda: unseen.hits, what="the watch to be refused")
    spoiled.create("a", held=True)
    spoiled.until_remote("a")
    uid = spoiled.uid("a")
    spoiled.provider.request("DELETE", spoiled.remote_path("a"))
    spoiled.until(lambda: spoiled.history().remotes_of(uid)[0].ended < inf, what="the remote pod to be gone")
    spoiled.provider_proxy.clear()
    spoiled.until(lambda: len(spoiled.history().remotes_of(uid)) == 2, what="the second remote pod")
    spoiled.set_remote_status("a")
    spoiled.until_phase("a")
    assert len(spoiled.check().remotes_of(uid)) == 2


def test_f27_deleted_by_hand_a_pod_that_must_not_restart_fails(spoiled: World) -> None:
    spoiled.held_running("a", restartPolicy="Never")
    spoiled.provider.request("DELETE", spoiled.remote_path("a"))
    spoiled.until_phase("a", phase="Failed")
    pod = spoiled.pod("a")
    assert pod is not None
    assert pod["status"]["reason"] == "RemotePodLost"
    assert len(spoiled.check().remotes_of(spoiled.uid("a"))) == 1


@pytest.mark.parametrize(("policy", "phase", "lives"), [("Never", "Failed", 1), ("Always", "Running", 2)])
def test_f27_i2_i4_lost_before_the_node_was_shown_that_it_ran(
    spoiled: World, policy: str, phase: str, lives: int
) -> None:
    """The consumer has accepted that the pod runs; the node's watch is late to show that, as on a busy machine."""
    spoiled.create("a", held=True, restartPolicy=policy)
    spoiled.until_remote("a")
    uid = spoiled.uid("a")
    late: list[Event] = []

    def hold_back(event: Event) -> list[Event]:
        pod = event["object"]
        if pod["metadata"].get("uid") != uid or pod["status"].get("phase") != "Running":
            return [event]
        late.append(event)
        return []

    spoiled.consumer_proxy.add(AlterEvents(hold_back), path="^/api/v1/pods$")
    spoiled.set_remote_status("a")
    spoiled.until(lambda: late, what="the event to be held back")
    spoiled.provider.request("DELETE", spoiled.remote_path("a"))
    spoiled.until(lambda: spoiled.history().remotes_of(uid)[0].ended < inf, what="the remote pod to be gone")
    spoiled.running("after")  # the provider told of this one later, so by now the node has acted on the other
    spoiled.consumer_proxy.clear()
    for event in late:
        spoiled.consumer_proxy.inject(event, path="/api/v1/pods")
    spoiled.until(lambda: len(spoiled.history().remotes_of(uid)) == lives, what="its lives")
    if lives > 1:
        spoiled.until_remote("a")
        spoiled.set_remote_status("a")
        spoiled.until_restarts("a", 1)
    spoiled.until_phase("a", phase=phase)
    assert len(spoiled.check().remotes_of(uid)) == lives


def test_f27_i2_a_pod_that_ended_and_was_deleted_at_once_is_not_run_again(spoiled: World) -> None:
    spoiled.held_running("a", restartPolicy="OnFailure")
    spoiled.node.unit.pause()
    spoiled.set_remote_status("a", phase="Succeeded")
    spoiled.provider.request("DELETE", spoiled.remote_path("a"))
    spoiled.until(lambda: not spoiled.remote("a"), what="the remote pod to be gone")
    spoiled.node.unit.resume()
    spoiled.until_phase("a", phase="Succeeded")
    assert len(spoiled.check().remotes_of(spoiled.uid("a"))) == 1


def test_f26_i4_evicted_from_a_dying_node_it_runs_on_another(spoiled: World) -> None:
    spoiled.held_running("a")
    remote = spoiled.remote("a")
    assert remote is not None
    node = f"/api/v1/nodes/{remote['spec']['nodeName']}"
    taints = [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]
    uid = spoiled.uid("a")
    spoiled.provider.request("PATCH", node, body={"spec": {"taints": taints}}, content_type=MERGE)
    try:
        spoiled.until(lambda: len(spoiled.history().remotes_of(uid)) == 2, what="the second remote pod")
        spoiled.until(lambda: (spoiled.remote("a") or {})["spec"].get("nodeName"), what="a node for it")
        spoiled.set_remote_status("a")
        spoiled.until_restarts("a", 1)
    finally:
        spoiled.provider.request("PATCH", node, body={"spec": {"taints": None}}, content_type=MERGE)
    again = spoiled.remote("a")
    assert again is not None
    assert again["spec"]["nodeName"] != remote["spec"]["nodeName"]
    assert len(spoiled.check().remotes_of(uid)) == 2


def test_f30_a_provider_namespace_deleted_by_hand_is_made_again(spoiled: World) -> None:
    spoiled.running("a")
    first = spoiled.remote("a")
    namespace = f"/api/v1/namespaces/{spoiled.remote_namespace}"
    uid = spoiled.provider.request("GET", namespace)["metadata"]["uid"]
    spoiled.provider.request("DELETE", namespace)
    spoiled.create("b")

    def made_again() -> bool:
        return bool(spoiled.provider.request("GET", namespace)["metadata"]["uid"] != uid)

    spoiled.until(made_again, what="the new namespace")
    spoiled.until_remote("a", "b")
    spoiled.until_phase("a", "b")
    assert first != spoiled.remote("a")
    spoiled.delete("a")
    spoiled.until_gone("a")
    spoiled.check()


def test_f37_one_poisoned_pod_fails_alone(spoiled: World) -> None:
    """One that the provider refuses, one whose Secret is the largest there is, and one that comes garbled."""
    data = {"blob": base64.b64encode(b"x" * (1000 * 1024)).decode()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "huge"}, "data": data}
    spoiled.consumer.request("POST", f"/api/v1/namespaces/{spoiled.namespace}/secrets", body=secret)

    def garbled(event: Json) -> list[Json]:
        metadata = event["object"]["metadata"]
        if (metadata.get("namespace"), metadata.get("name")) == (spoiled.namespace, "garbled"):
            metadata["labels"] = 17
        return [event]

    spoiled.consumer_proxy.add(rules.AlterEvents(garbled), path="^/api/v1/pods$")
    spoiled.create("garbled")
    spoiled.create("fat", annotations={f"example.com/{i}": "x" * 1000 for i in range(250)})
    volume = {"name": "v", "secret": {"secretName": "huge"}}
    spoiled.create("huge", volumes=[volume])
    spoiled.running("well-1", "well-2")
    spoiled.until_phase("huge")

    def told() -> bool:
        status = (spoiled.pod("fat") or {})["status"]
        return bool(status.get("reason") == "OffloadRefused" or status["phase"] == "Running")

    spoiled.until(told, what="what became of the fat pod")
    assert spoiled.remote("garbled") is None
    spoiled.proxies["consumer"].clear()
    spoiled.consumer.request(
        "PATCH", spoiled.path("garbled"), body={"metadata": {"labels": {"well": "again"}}}, content_type=MERGE
    )
    spoiled.until_phase("garbled")
    spoiled.check()


def test_a_field_that_the_provider_does_not_know_is_told_on_the_pod(spoiled: World) -> None:
    """The node is shown a pod as a newer consumer would have it."""

    def newer(event: Event) -> list[Event]:
        if event["type"] != "BOOKMARK" and "spec" in event["object"]:
            event["object"]["spec"]["brandNew"] = {"a": 1}
        return [event]

    everywhere, since = "^/api/v1/pods$", len(spoiled.consumer_proxy.records)
    spoiled.consumer_proxy.add(AlterEvents(newer), path=everywhere)
    spoiled.list_again("consumer", path="/api/v1/pods")
    watches = partial(spoiled.consumer_proxy.seen, path=everywhere, verb="watch", since=since)
    spoiled.until(lambda: any(watch.status == 200 for watch in watches()), what="a watch that is altered")
    spoiled.running("a")
    path = f"/api/v1/namespaces/{spoiled.namespace}/events"
    told = "the provider does not know spec.brandNew and runs the pod without"
    spoiled.until(
        lambda: (
            [
                e["message"]
                for e in spoiled.consumer.request("GET", path)["items"]
                if e["reason"] == "FieldUnknownToProvider"
            ]
            == [told]
        ),
        what="the event about the field",
    )
    spoiled.consumer_proxy.clear()
    spoiled.list_again("consumer", path="/api/v1/pods")
    spoiled.check()


def test_f36_a_far_provider_costs_latency_and_not_throughput(slow: World) -> None:
    """Every request takes two crossings of 0.1 s, so that creations one after the other could not be closer than that.
    Here they are as close as the wishes for them, for which no crossing counts."""
    names = [f"p-{i}" for i in range(30)]
    slow.running("first")
    slow.create(*names)
    slow.until_phase(*names)
    history = slow.check()
    created = sorted(life.began for life in history.remotes() if life.name in names)
    assert len(created) == len(names)
    close = [later - earlier < 2 * DELAY for earlier, later in itertools.pairwise(created)]
    assert sum(close) > len(close) / 2, created
