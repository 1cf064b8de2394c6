"""Faults of writes: answers lost, refused, throttled or spoiled, and a process killed in the middle."""

import itertools

import pytest

from deploy import stack
from deploy.lab.proxy import rules
from tests.cluster.faults.world import MERGE, World


def test_f4_i2_a_create_whose_answer_is_lost_makes_one_pod(spoiled: World) -> None:
    swallowed = spoiled.provider_proxy.add(rules.Swallow(), path=f"{spoiled.asked_path()}$", verb="create", times=2)
    spoiled.running("a", "b", "c")
    assert swallowed.hits == 2
    history = spoiled.check()
    for name in ("a", "b", "c"):
        assert len(history.remotes_of(spoiled.uid(name))) == 1


@pytest.mark.parametrize("reached", [True, False], ids=["executed", "lost"])
def test_f18_i1_i2_killed_after_a_create_whose_answer_was_lost_it_adopts_the_pod(spoiled: World, reached: bool) -> None:
    spoiled.running("before")
    action = rules.Swallow() if reached else rules.Refuse()
    rule = spoiled.provider_proxy.add(action, path=f"{spoiled.asked_path()}$", verb="create")
    # From then on the process learns nothing more.
    spoiled.create("a")
    spoiled.until(lambda: rule.hits, what="the create")
    spoiled.node.unit.kill()
    if reached:
        spoiled.until_remote("a")
    assert (spoiled.remote("a") is not None) == reached
    spoiled.provider_proxy.clear()
    spoiled.node.unit.start()
    spoiled.until_phase("a", "before")
    history = spoiled.check()
    assert len(history.remotes_of(spoiled.uid("a"))) == 1
    assert len(history.remotes_of(spoiled.uid("before"))) == 1


def test_f14_i5_a_second_writer_does_not_keep_it_from_agreeing(spoiled: World) -> None:
    spoiled.held_running("a")
    spoiled.consumer_proxy.add(rules.status(409, "Conflict", "the object has been modified"), verb="patch", times=2)

    def label(count: int) -> dict[str, object]:
        return {"metadata": {"labels": {"writer": str(count)}}}

    for count in range(1, 21):
        spoiled.consumer.request("PATCH", spoiled.path("a"), body=label(count), content_type=MERGE)
        spoiled.set_remote_status("a", restarts=count)
        spoiled.provider.request(
            "PATCH", spoiled.remote_path("a"), body={"metadata": {"annotations": {"x": str(count)}}}, content_type=MERGE
        )
    spoiled.until_restarts("a", 20)

    def carried() -> bool:
        labels = (spoiled.remote("a") or {})["metadata"]["labels"]
        return bool(labels.get("writer") == "20")

    spoiled.until(carried, what="the last label")
    assert len(spoiled.check().remotes_of(spoiled.uid("a"))) == 1


@pytest.mark.parametrize("code", [429, 503])
def test_f15_i7_it_waits_as_long_as_it_is_told(spoiled: World, code: int) -> None:
    spoiled.running("before")
    told = 2
    refusal = rules.status(code, "TooManyRequests", "not now", retry_after=told)
    proxy, since = spoiled.provider_proxy, len(spoiled.provider_proxy.records)
    path = f"{spoiled.asked_path()}$"
    proxy.add(refusal, path=path, verb="create", times=2)
    spoiled.create("a")
    spoiled.until_phase("a")
    times = [record.at for record in proxy.seen(path=path, verb="create", since=since)]
    assert len(times) == 3
    assert all(later - earlier >= told for earlier, later in itertools.pairwise(times))
    assert len(spoiled.check().remotes_of(spoiled.uid("a"))) == 1


def test_f16_i7_rights_that_are_revoked_are_told_and_used_again_when_granted(spoiled: World) -> None:
    spoiled.running("before")
    path = f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{stack.REMOTE_ROLE}"
    rules_of_role = spoiled.provider.request("GET", path)["rules"]
    revoked = [{**rule, "verbs": [v for v in rule["verbs"] if v not in ("create", "delete")]} for rule in rules_of_role]
    spoiled.provider.request("PATCH", path, body={"rules": revoked}, content_type=MERGE)
    try:
        spoiled.create("a")
        spoiled.delete("before")
        spoiled.until(lambda: (spoiled.pod("a") or {})["status"].get("reason") == "OffloadRefused", what="the reason")
        events = f"/api/v1/namespaces/{spoiled.namespace}/events?fieldSelector=involvedObject.name=a"
        spoiled.until(lambda: spoiled.consumer.request("GET", events)["items"], what="an event")
        assert spoiled.pod("before")
    finally:
        spoiled.provider.request("PATCH", path, body={"rules": rules_of_role}, content_type=MERGE)
    spoiled.until_phase("a")
    spoiled.until_gone("before")
    pod = spoiled.pod("a")
    assert pod is not None
    assert "reason" not in pod["status"]
    history = spoiled.check()
    assert len(history.remotes_of(spoiled.uid("a"))) == 1


NONSENSE: dict[str, tuple[rules.Action, ...]] = {
    "parts": (rules.truncated(), rules.BreakBody(), rules.Answer(200, b"")),
    "others": (
        rules.server_error(),
        rules.html(),
        rules.Answer(200, b'{"kind":"Secret","apiVersion":"v1","metadata":{"name":"a"}}'),
    ),
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_f17_answers_that_make_no_sense_do_no_harm(spoiled: World, kind: str) -> None:
    spoiled.running("before")
    pid = spoiled.node.unit.pid
    within = f"/{spoiled.remote_namespace}/"
    spoiled_once = []
    for action in NONSENSE[kind]:
        spoiled_once += [
            spoiled.provider_proxy.add(action, path=within, verb="create", times=1),
            spoiled.consumer_proxy.add(action, path=f"/{spoiled.namespace}/pods/", verb="patch", times=1),
            spoiled.consumer_proxy.add(action, path="^/api/v1/pods$", verb="watch", times=1),
            spoiled.provider_proxy.add(action, path=f"{spoiled.asked_path()}$", verb="watch", times=1),
        ]
    spoiled.consumer_proxy.break_watches(path="/api/v1/pods")
    spoiled.provider_proxy.break_watches(path=within)
    names = ("a", "b", "c", "d")
    spoiled.create(*names)
    spoiled.until(lambda: all(rule.hits for rule in spoiled_once), what="every kind of nonsense")
    spoiled.until_phase(*names)
    spoiled.delete("a")
    spoiled.until_gone("a")
    assert spoiled.node.unit.pid == pid
    assert not spoiled.logged("reconcile crashed")
    history = spoiled.check()
    assert [len(history.remotes_of(spoiled.uid(name))) for name in ("before", "b")] == [1, 1]
