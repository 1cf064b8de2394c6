"""What the provider's manager makes of ShadowPods and NamespaceMaps, asked with a consumer's bare credential."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from deploy import stack
from deploy.lab.lab import Lab
from deploy.lab.process import Unit
from tests import history
from tests.cluster.managed.conftest import LONG, OTHER_ID, Tenant, mapped, namespace_map, shadow, start_manager
from tests.kubectl import Kubectl, KubectlError, eventually

Json = dict[str, Any]
CONSUMER = "offloading.isthmus.dev/consumer"
FLOOD = 120
"""More than the manager has in hand at once."""


def accepted(found: Json) -> Json:
    conditions: list[Json] = found["status"]["conditions"]
    return next(one for one in conditions if one["type"] == "Accepted")


def test_a_shadow_pod_becomes_a_pod_and_goes_with_it(tenant: Tenant) -> None:
    asked = tenant.shadow("web", metadata={"labels": {"app": "web"}})
    found = tenant.until("web", phase="Running")
    pod = tenant.kubectl.get("pod", "web")
    assert found["status"]["podUID"] == pod["metadata"]["uid"]
    assert accepted(found)["status"] == "True"
    labels = pod["metadata"]["labels"]
    assert labels["app"] == "web"
    assert labels[CONSUMER] == tenant.consumer_id
    assert pod["metadata"]["ownerReferences"][0]["uid"] == asked["metadata"]["uid"]
    assert pod["spec"]["automountServiceAccountToken"] is False
    tenant.kubectl.delete("shadowpod", "web", timeout=LONG)
    assert not tenant.admin.exists("pod", "web")


def test_changes_are_passed_on(tenant: Tenant) -> None:
    tenant.shadow("web", held=True, metadata={"labels": {"app": "web", "old": "1"}})
    tenant.admin.wait_for("pod", "web")
    patch = {
        "metadata": {"labels": {"app": "new", "old": None}},
        "spec": {
            "activeDeadlineSeconds": 1000,
            "containers": [{"name": "main", "image": "none:2"}],
            "ephemeralContainers": [{"name": "debug", "image": "none:3"}],
        },
    }
    tenant.kubectl.run("patch", "shadowpod", "web", "--type=merge", "-p", json.dumps({"spec": {"pod": patch}}))

    def passed_on(pod: Json) -> bool:
        spec, labels = pod["spec"], pod["metadata"]["labels"]
        return (
            spec["containers"][0]["image"] == "none:2"
            and spec["activeDeadlineSeconds"] == 1000
            and spec["ephemeralContainers"][0]["name"] == "debug"
            and (labels["app"], labels.get("old")) == ("new", None)
            and labels[CONSUMER] == tenant.consumer_id
        )

    tenant.admin.wait_for("pod", "web", passed_on, timeout=LONG)


def test_a_change_that_is_refused_says_why_and_the_pod_stays(tenant: Tenant) -> None:
    tenant.shadow("web")
    tenant.until("web", phase="Running")
    patch = {
        "spec": {
            "pod": {
                "spec": {"ephemeralContainers": [{"name": "d", "image": "i", "securityContext": {"privileged": True}}]}
            }
        }
    }
    tenant.kubectl.run("patch", "shadowpod", "web", "--type=merge", "-p", json.dumps(patch))
    found = tenant.kubectl.wait_for("shadowpod", "web", lambda it: len(it["status"]["conditions"]) > 1, timeout=LONG)
    said = next(one for one in found["status"]["conditions"] if one["type"] == "InStep")
    assert said["status"] == "False"
    assert "privileged" in said["message"]
    assert tenant.kubectl.get("pod", "web")["status"]["phase"] == "Running"


def test_a21_what_a_pod_may_not_ask_for_is_refused_with_a_reason(tenant: Tenant) -> None:
    main = {"name": "main", "image": "none:1"}
    cases: dict[str, tuple[Json, str]] = {
        "net": ({"hostNetwork": True}, "spec.hostNetwork"),
        "path": ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "hostPath"),
        "root": ({"containers": [{**main, "securityContext": {"privileged": True}}]}, "privileged"),
        "node": ({"nodeName": "provider-kwok-0"}, "spec.nodeName"),
        "account": ({"serviceAccountName": "builder"}, "spec.serviceAccountName"),
        "priority": ({"priorityClassName": "system-node-critical"}, "spec.priorityClassName"),
        "tolerant": ({"tolerations": [{"operator": "Exists"}]}, "spec.tolerations"),
        "unknown": ({"hostEverything": True}, "spec.hostEverything"),
    }
    for name, (spec, _) in cases.items():
        tenant.shadow(name, **spec)
    for name, (_, said) in cases.items():
        found = tenant.until(name, reason="Forbidden")
        assert said in accepted(found)["message"]
        assert not tenant.admin.exists("pod", name)
    tenant.kubectl.delete("shadowpods", "--all", timeout=LONG)


def test_what_the_api_server_refuses_comes_back_as_reason(tenant: Tenant) -> None:
    tenant.admin.run(
        "label", "namespace", tenant.namespace, "pod-security.kubernetes.io/enforce=restricted", "--overwrite"
    )
    tenant.shadow("secure")
    assert "runAsNonRoot" in tenant.until("secure", reason="PodSecurity")["status"]["message"]
    tenant.admin.run(
        "label", "namespace", tenant.namespace, "pod-security.kubernetes.io/enforce=baseline", "--overwrite"
    )
    tenant.admin.run("create", "quota", "few", "--hard=pods=0")
    quota = tenant.admin
    quota.wait_for("quota", "few", lambda it: it["status"]["hard"]["pods"] == "0")
    tenant.shadow("many")
    assert "exceeded quota" in tenant.until("many", reason="QuotaExceeded")["status"]["message"]
    quota.delete("quota", "few")
    tenant.until("many", phase="Running")


def test_a27_labels_of_isthmus_are_not_the_consumers_to_set(tenant: Tenant) -> None:
    tenant.shadow("forged", metadata={"labels": {CONSUMER: "other"}})
    assert CONSUMER in tenant.until("forged", reason="Forbidden")["status"]["message"]


def test_a_pod_of_that_name_that_is_not_ours_stays(tenant: Tenant) -> None:
    tenant.admin.run("run", "mine", "--image=none:1")
    tenant.shadow("mine")
    tenant.until("mine", reason="NameTaken")
    tenant.kubectl.delete("shadowpod", "mine", timeout=LONG)
    assert "ownerReferences" not in tenant.admin.get("pod", "mine")["metadata"]


# -- vanishing and completing, also while the manager is away


def test_a_pod_that_vanishes_is_made_again(tenant: Tenant) -> None:
    tenant.shadow("web")
    first = tenant.until("web", phase="Running")["status"]["podUID"]
    tenant.admin.delete("pod", "web", "--grace-period=1", "--wait=false")
    found = tenant.kubectl.wait_for(
        "shadowpod",
        "web",
        lambda it: it["status"]["podUID"] != first and it["status"]["phase"] == "Running",
        timeout=LONG,
    )
    pod = tenant.kubectl.get("pod", "web")
    assert pod["metadata"]["uid"] == found["status"]["podUID"]


def test_f24_a_pod_that_vanishes_while_the_manager_is_away_is_made_again(tenant: Tenant, manager: Unit) -> None:
    tenant.shadow("web")
    first = tenant.until("web", phase="Running")["status"]["podUID"]
    manager.kill()
    try:
        tenant.admin.delete("pod", "web", "--grace-period=0", "--force", "--wait=false")
    finally:
        manager.start()
    tenant.kubectl.wait_for(
        "shadowpod",
        "web",
        lambda it: it["status"]["podUID"] != first and it["status"]["phase"] == "Running",
        timeout=LONG,
    )


def test_a_completed_pod_is_never_run_again(tenant: Tenant) -> None:
    tenant.shadow("job", held=True, restartPolicy="OnFailure")
    uid = tenant.admin.wait_for("pod", "job", lambda it: it["spec"].get("nodeName"), timeout=LONG)["metadata"]["uid"]
    tenant.set_status("job", "Succeeded")
    assert tenant.until("job", phase="Succeeded")["status"]["podUID"] == uid
    tenant.admin.delete("pod", "job", timeout=LONG)
    tenant.shadow("after")  # a sign that the manager has looked since
    tenant.until("after", phase="Running")
    assert not tenant.admin.exists("pod", "job")
    assert tenant.kubectl.get("shadowpod", "job")["status"]["phase"] == "Succeeded"


def test_a_pod_that_completes_and_is_deleted_while_the_manager_is_away_is_not_run_again(
    tenant: Tenant, manager: Unit
) -> None:
    tenant.shadow("job", held=True, restartPolicy="OnFailure")
    tenant.admin.wait_for("pod", "job", lambda it: it["spec"].get("nodeName"), timeout=LONG)
    manager.kill()
    try:
        tenant.set_status("job", "Succeeded")
        tenant.admin.delete("pod", "job", "--wait=false")
        assert tenant.admin.exists("pod", "job")  # our finalizer holds it until its end is recorded
    finally:
        manager.start()
    tenant.until("job", phase="Succeeded")
    eventually(lambda: not tenant.admin.exists("pod", "job"), what="the pod to go", timeout=LONG)
    tenant.shadow("after")
    tenant.until("after", phase="Running")
    assert not tenant.admin.exists("pod", "job")


def test_a_pod_that_must_not_run_twice_is_lost_when_it_is_deleted(tenant: Tenant) -> None:
    tenant.shadow("once", restartPolicy="Never")
    tenant.until("once", phase="Running")
    tenant.admin.delete("pod", "once", "--grace-period=0", "--force", "--wait=false")
    tenant.until("once", phase="Failed", reason="RemotePodLost")
    eventually(lambda: not tenant.admin.exists("pod", "once"), what="the pod to go", timeout=LONG)


def test_a_shadow_pod_that_goes_while_the_manager_is_away_takes_its_pod_along(tenant: Tenant, manager: Unit) -> None:
    tenant.shadow("web")
    tenant.until("web", phase="Running")
    manager.kill()
    try:
        tenant.kubectl.delete("shadowpod", "web", "--wait=false")
        assert tenant.admin.exists("pod", "web")
    finally:
        manager.start()
    tenant.kubectl.wait_gone("shadowpod", "web")
    assert not tenant.admin.exists("pod", "web")


def test_another_replica_takes_over(tenant: Tenant, manager: Unit, lab: Lab) -> None:
    manager.stop()
    try:
        first = start_manager(lab, "manager-b", lease=15)
        tenant.shadow("before")
        tenant.until("before", phase="Running")
        other = start_manager(lab, "manager-c", lease=15)
        first.kill()
        tenant.shadow("web")
        tenant.until("web", phase="Running")
        other.stop()
    finally:
        first.stop()
        manager.start()
    tenant.shadow("next")
    tenant.until("next", phase="Running")
    found = tenant.admin.list("pods")
    assert sorted(pod["metadata"]["name"] for pod in found) == ["before", "next", "web"]


@pytest.fixture
def last(manager: Unit, credentials: dict[str, Kubectl]) -> Iterator[Tenant]:
    """Another consumer, whose namespace comes last in every list."""
    yield from mapped(credentials, OTHER_ID, prefix="z")


def test_a29_a_flood_of_one_consumer_does_not_hold_up_another(
    tenant: Tenant, last: Tenant, manager: Unit, lab: Lab
) -> None:
    """All that was asked for while the manager was away is looked at in turns, not in the order of a list."""
    manager.kill()
    try:
        flood = "\n---\n".join(json.dumps(shadow(f"flood-{number:03}")) for number in range(FLOOD))
        tenant.kubectl.run("create", "-f", "-", stdin=flood)
        last.shadow("one")
    finally:
        manager.start()
    last.until("one", phase="Running")
    eventually(lambda: len(tenant.admin.list("pods")) == FLOOD, what="the flood", timeout=LONG, every=0.5)
    made = [
        entry
        for entry in history.read(lab.provider.audit_log)
        if (entry.user, entry.verb, entry.resource, entry.subresource) == (stack.MANAGER_USER, "create", "pods", "")
        and entry.namespace in (tenant.namespace, last.namespace)
    ]
    made.sort(key=lambda entry: entry.began)
    place = [entry.namespace for entry in made].index(last.namespace)
    assert place < FLOOD / 2, f"{place} pods of the flood were made first"


# -- namespaces


@pytest.fixture
def desk(tenant: Tenant) -> Kubectl:
    """The consumer in its tenant namespace."""
    return replace(tenant.kubectl, namespace=tenant.tenant)


def not_ready(reason: str) -> Callable[[Json], bool]:
    return lambda it: bool(it["status"]["conditions"][0]["reason"] == reason)


def test_a_namespace_has_its_level_and_its_consumer(tenant: Tenant) -> None:
    found = tenant.admin.get("namespace", tenant.namespace)["metadata"]
    assert found["labels"]["pod-security.kubernetes.io/enforce"] == "baseline"
    assert found["labels"][CONSUMER] == tenant.consumer_id
    assert found["annotations"]["offloading.isthmus.dev/origin-namespace"] == tenant.origin


def test_a_foreign_namespace_is_never_taken_over(tenant: Tenant, desk: Kubectl, neighbour: Tenant) -> None:
    cases = [
        ("theirs", {"namespaceMapping": "SelectedName", "remoteNamespace": neighbour.namespace}, "ForeignNamespace"),
        ("kube-system", {"namespaceMapping": "EnforceSameName"}, "Denied"),
        ("desk", {"namespaceMapping": "SelectedName", "remoteNamespace": "isthmus-victim"}, "Denied"),
    ]
    for name, spec, reason in cases:
        desk.create(namespace_map(name, **spec))
        desk.wait_for("namespacemap", name, not_ready(reason), timeout=LONG)
        desk.delete("namespacemap", name, timeout=LONG)
    neighbour.shadow("there")
    neighbour.until("there", phase="Running")
    assert not tenant.admin.exists("namespace", "isthmus-victim")


def test_a_namespace_goes_with_its_map_but_not_under_running_pods(tenant: Tenant, desk: Kubectl) -> None:
    tenant.shadow("web")
    tenant.until("web", phase="Running")
    desk.delete("namespacemap", tenant.origin, "--wait=false")
    desk.wait_for("namespacemap", tenant.origin, not_ready("InUse"), timeout=LONG)
    assert tenant.kubectl.get("pod", "web")["status"]["phase"] == "Running"
    tenant.kubectl.delete("shadowpod", "web", timeout=LONG)
    desk.wait_gone("namespacemap", tenant.origin)
    assert not tenant.admin.exists("namespace", tenant.namespace)


def test_rights_that_were_taken_or_widened_are_put_back(tenant: Tenant, manager: Unit) -> None:
    role = "isthmus-managed-consumer"
    tenant.admin.delete("rolebinding", role)
    tenant.admin.run("create", "rolebinding", role, "--clusterrole=view", "--user=somebody")
    manager.restart()
    tenant.admin.wait_for("rolebinding", role, lambda it: it["roleRef"]["name"] == role, timeout=LONG)


# -- what the consumer's credential may not do


@pytest.mark.parametrize(
    "question",
    [
        "create pods",
        "patch pods",
        "delete pods",
        "patch pods --subresource=ephemeralcontainers",
        "patch shadowpods --subresource=status",
        "create serviceaccounts --subresource=token",
        "create rolebindings",
        "create serviceaccounts",
        "update namespaces",
        "list secrets --all-namespaces",
        "list shadowpods --all-namespaces",
        "list nodes",
        "create customresourcedefinitions",
        "create tokenreviews",
        "create clusterrolebindings",
        "impersonate users",
    ],
)
def test_a20_a_consumer_has_no_right_beyond_its_role(neighbour: Tenant, question: str) -> None:
    assert neighbour.kubectl.result("auth", "can-i", *question.split()).stdout.strip() == b"no"


def test_a20_a_consumer_reaches_no_namespace_of_another(tenant: Tenant, neighbour: Tenant) -> None:
    there = replace(tenant.kubectl, namespace=neighbour.namespace)
    for arguments in (("get", "pods"), ("get", "secrets"), ("get", "shadowpods")):
        with pytest.raises(KubectlError, match="forbidden"):
            there.run(*arguments)
    with pytest.raises(KubectlError, match="forbidden"):
        there.create(shadow("intruder"))
    with pytest.raises(KubectlError, match="forbidden"):
        replace(there, namespace=neighbour.tenant).create(namespace_map("intruder"))
