"""Faults of single pods: deleted behind our back, replaced by a namesake, or poisoned."""

from tests.cluster.faults.world import MERGE, World


def test_f29_i2_a_namesake_waits_until_its_predecessor_is_gone(spoiled: World) -> None:
    spoiled.running("a")
    old = spoiled.uid("a")
    # Something at the provider takes its time to let go, as containers do that are slow to stop.
    hold = {"metadata": {"finalizers": ["test.isthmus.dev/slow"]}}
    spoiled.provider.request("PATCH", spoiled.remote_path("a"), body=hold, content_type=MERGE)
    spoiled.delete("a", grace=0)
    spoiled.create("a")
    new = spoiled.uid("a")
    assert new != old
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
    spoiled.until(lambda: spoiled.restarts("a") == 3, what="the restart to be counted")
    history = spoiled.check()
    assert len(history.remotes_of(uid)) == 2


def test_f27_deleted_by_hand_a_pod_that_must_not_restart_fails(spoiled: World) -> None:
    spoiled.held_running("a", restartPolicy="Never")
    spoiled.provider.request("DELETE", spoiled.remote_path("a"))
    spoiled.until_phase("a", phase="Failed")
    pod = spoiled.pod("a")
    assert pod is not None
    assert pod["status"]["reason"] == "RemotePodLost"
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
        spoiled.until(lambda: spoiled.restarts("a") == 1, what="the restart to be counted")
    finally:
        spoiled.provider.request("PATCH", node, body={"spec": {"taints": None}}, content_type=MERGE)
    again = spoiled.remote("a")
    assert again is not None
    assert again["spec"]["nodeName"] != remote["spec"]["nodeName"]
    assert len(spoiled.check().remotes_of(uid)) == 2
