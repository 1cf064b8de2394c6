"""ConfigMaps and Secrets that a pod names: copied, kept in step, removed again; and what is never copied."""

import base64
import json
from typing import Any

import pytest

from tests import manifests as m
from tests.kubectl import Kubectl, eventually, phase, ready

SLEEP = "trap 'exit 0' TERM; sleep 600 & wait"
SERVERS_OWN = "kube-root-ca.crt"


def mounting(**volumes: dict[str, Any]) -> dict[str, Any]:
    """Fields of a pod spec with these volumes, each mounted under its name in container `main`."""
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in volumes]
    return {
        "containers": [m.shell("main", SLEEP, volumeMounts=mounts)],
        "volumes": [{"name": name, **source} for name, source in volumes.items()],
    }


def of_config_map(name: str, **fields: Any) -> dict[str, Any]:
    return {"configMap": {"name": name, **fields}}


def of_secret(name: str, **fields: Any) -> dict[str, Any]:
    return {"secret": {"secretName": name, **fields}}


def waiting(pod: dict[str, Any]) -> dict[str, Any]:
    statuses = pod["status"].get("containerStatuses") or [{}]
    found: dict[str, Any] = statuses[0].get("state", {}).get("waiting") or {}
    return found


def cat(kubectl: Kubectl, pod: str, *files: str) -> str:
    return kubectl.run("exec", pod, "--", "cat", *files)


def warned(kubectl: Kubectl, pod: str, text: str) -> bool:
    events = kubectl.list("events", f"--field-selector=involvedObject.name={pod},type=Warning")
    return any(text in event["message"] for event in events)


def test_all_ways_to_name_config_maps_and_secrets(consumer: Kubectl) -> None:
    consumer.apply(
        m.config_map("env-map", COLOUR="red"),
        {**m.config_map("file-map"), "data": {"app.conf": "debug = yes\n", "other": "x"}},
        m.secret("env-secret", TOKEN="s3cr3t"),
        m.secret("file-secret", key="pem"),
        {**m.config_map("binary"), "binaryData": {"blob": base64.b64encode(bytes(range(256))).decode()}},
    )
    env = [
        {"name": "ONE", "valueFrom": {"configMapKeyRef": {"name": "env-map", "key": "COLOUR"}}},
        {"name": "TWO", "valueFrom": {"secretKeyRef": {"name": "env-secret", "key": "TOKEN"}}},
        {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "x", "optional": True}}},
    ]
    env_from = [
        {"configMapRef": {"name": "env-map"}},
        {"prefix": "S_", "secretRef": {"name": "env-secret"}},
        {"configMapRef": {"name": "absent-too", "optional": True}},
    ]
    sources = [
        {"configMap": {"name": "file-map", "items": [{"key": "app.conf", "path": "conf/app"}]}},
        {"secret": {"name": "file-secret"}},
        {"secret": {"name": "absent", "optional": True}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]
    fields = mounting(
        whole=of_config_map("file-map"),
        closed=of_secret("file-secret", defaultMode=0o400),
        both={"projected": {"sources": sources}},
        raw=of_config_map("binary"),
        ca=of_config_map(SERVERS_OWN),
    )
    fields["containers"][0].update(env=env, envFrom=env_from)
    consumer.create(m.pod("reader", *fields.pop("containers"), **fields))
    consumer.wait_for("pod", "reader", ready)
    shown = consumer.run("exec", "reader", "--", "sh", "-c", "echo $ONE $TWO $COLOUR $S_TOKEN [$NONE]")
    assert shown == "red s3cr3t red s3cr3t []\n"
    assert cat(consumer, "reader", "/whole/app.conf", "/both/conf/app") == "debug = yes\n" * 2
    assert cat(consumer, "reader", "/closed/key", "/both/key") == "pem" * 2
    assert cat(consumer, "reader", "/both/namespace") == consumer.namespace
    assert consumer.result("exec", "reader", "--", "cat", "/raw/blob").stdout == bytes(range(256))
    assert consumer.run("exec", "reader", "--", "stat", "-L", "-c", "%a", "/closed/key") == "400\n"
    own_ca = consumer.get("configmap", SERVERS_OWN)["data"]["ca.crt"]
    assert cat(consumer, "reader", "/ca/ca.crt") == own_ca, "it must be the consumer's CA, not the provider's"


def test_a_missing_object_holds_the_pod_back_until_it_appears(consumer: Kubectl) -> None:
    needs_env = m.shell("main", SLEEP, envFrom=[{"secretRef": {"name": "late-secret"}}])
    fields = mounting(late=of_config_map("late-map"))
    consumer.create(m.pod("by-env", needs_env))
    consumer.create(m.pod("by-volume", *fields.pop("containers"), **fields))
    pod = consumer.wait_for("pod", "by-env", lambda p: waiting(p)["reason"] == "CreateContainerConfigError")
    assert 'secret "late-secret" not found' in waiting(pod)["message"]
    consumer.wait_for("pod", "by-volume", lambda p: waiting(p)["reason"] == "ContainerCreating")
    eventually(lambda: warned(consumer, "by-volume", 'configmap "late-map" not found'), what="the kubelet's reason")
    consumer.apply(m.secret("late-secret", A="1"), m.config_map("late-map", b="2"))
    consumer.wait_for("pod", "by-env", ready)
    consumer.wait_for("pod", "by-volume", ready)
    assert cat(consumer, "by-volume", "/late/b") == "2"


def test_changes_reach_the_volumes_of_running_pods(consumer: Kubectl) -> None:
    consumer.apply(m.config_map("settings", level="1", gone="x"), m.secret("password", word="old"))
    maybe = of_config_map("maybe", optional=True)
    fields = mounting(settings=of_config_map("settings"), password=of_secret("password"), maybe=maybe)
    consumer.create(m.pod("watcher", *fields.pop("containers"), **fields))
    consumer.wait_for("pod", "watcher", ready)
    assert cat(consumer, "watcher", "/settings/level", "/password/word") == "1old"
    consumer.apply(m.config_map("settings", level="2"), m.secret("password", word="new"), m.config_map("maybe", x="y"))
    eventually(
        lambda: cat(consumer, "watcher", "/settings/level", "/password/word", "/maybe/x") == "2newy",
        what="the new contents in the pod",
        timeout=60,
    )
    assert consumer.result("exec", "watcher", "--", "test", "-e", "/settings/gone").returncode == 1


def test_an_immutable_object_made_anew_is_copied_anew(consumer: Kubectl, provider: Kubectl) -> None:
    fields = mounting(fixed=of_config_map("fixed"))
    for value in ("first", "second"):
        consumer.create(m.config_map("fixed", immutable=True, data=value))
        consumer.create(m.pod("reader", *fields["containers"], volumes=fields["volumes"]))
        consumer.wait_for("pod", "reader", ready)
        assert cat(consumer, "reader", "/fixed/data") == value
        assert provider.get("configmap", "fixed")["immutable"] is True
        consumer.delete("configmap", "fixed")
        consumer.delete("pod", "reader")


def test_copies_go_with_their_last_pod_and_with_their_source(consumer: Kubectl, provider: Kubectl) -> None:
    consumer.apply(m.config_map("both", a="1"), m.secret("one", b="2"), m.config_map("unnamed", c="3"))
    fields = mounting(both=of_config_map("both"), one=of_secret("one"))
    consumer.create(m.pod("first", *fields["containers"], volumes=fields["volumes"]))
    fields = mounting(both=of_config_map("both"))
    consumer.create(m.pod("second", *fields["containers"], volumes=fields["volumes"]))
    consumer.wait_for("pod", "first", ready)
    consumer.wait_for("pod", "second", ready)
    assert provider.get("secret", "one")["data"] == {"b": base64.b64encode(b"2").decode()}
    assert not provider.exists("configmap", "unnamed")
    consumer.delete("pod", "first")
    provider.wait_gone("secret", "one")
    assert provider.exists("configmap", "both")
    provider.delete("configmap", "both")
    provider.wait_for("configmap", "both", what="the copy to be made again")
    consumer.delete("configmap", "both")
    provider.wait_gone("configmap", "both")
    consumer.delete("pod", "second")


@pytest.mark.parametrize("at_consumer", [True, False], ids=["of-the-same-name", "the-consumer-has-none"])
def test_a_strangers_object_is_neither_touched_nor_shown(
    consumer: Kubectl, provider: Kubectl, at_consumer: bool
) -> None:
    consumer.create(m.pod("opener", m.shell("main", SLEEP)))  # has the provider's namespace made
    consumer.wait_for("pod", "opener", ready)
    theirs = provider.create(m.secret("vault", word="theirs"))
    if at_consumer:
        consumer.create(m.secret("vault", word="ours"))
    fields = mounting(vault=of_secret("vault", optional=True))
    consumer.create(m.pod("thief", *fields.pop("containers"), **fields))
    pod = consumer.wait_for("pod", "thief", lambda p: p["status"]["reason"] == "OffloadRefused")
    assert pod["status"]["phase"] == "Pending"
    assert "vault that isthmus did not make" in pod["status"]["message"]
    eventually(lambda: warned(consumer, "thief", "did not make"), what="the event")
    assert not provider.exists("pod", "thief")
    consumer.delete("pod", "thief")
    after = provider.get("secret", "vault")
    assert after["metadata"]["resourceVersion"] == theirs["metadata"]["resourceVersion"]


def test_a24_a_service_account_token_secret_is_not_copied(consumer: Kubectl, provider: Kubectl) -> None:
    token = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "old-token", "annotations": {"kubernetes.io/service-account.name": "default"}},
        "type": "kubernetes.io/service-account-token",
    }
    consumer.create(token)
    fields = mounting(token=of_secret("old-token"))
    consumer.create(m.pod("holder", *fields.pop("containers"), **fields))
    pod = consumer.wait_for("pod", "holder", lambda p: p["status"]["reason"] == "OffloadRefused")
    assert "tokens of the consumer cluster are not copied" in pod["status"]["message"]
    assert not provider.exists("secret", "old-token")
    assert not provider.exists("pod", "holder")
    consumer.delete("pod", "holder")


def test_pull_secrets_are_copied_and_a_missing_one_holds_nothing_back(consumer: Kubectl, provider: Kubectl) -> None:
    login = json.dumps({"auths": {"registry.invalid": {"auth": base64.b64encode(b"me:secret").decode()}}})
    consumer.run(
        "create",
        "secret",
        "generic",
        "login",
        "--type=kubernetes.io/dockerconfigjson",
        f"--from-literal=.dockerconfigjson={login}",
    )
    pulls = [{"name": "login"}, {"name": "absent"}]
    consumer.create(m.pod("puller", m.shell("main", "exit 0"), imagePullSecrets=pulls, restartPolicy="Never"))
    consumer.wait_for("pod", "puller", phase("Succeeded"))
    copy = provider.get("secret", "login")
    assert copy["type"] == "kubernetes.io/dockerconfigjson"
    assert base64.b64decode(copy["data"][".dockerconfigjson"]).decode() == login
    assert provider.get("pod", "puller")["spec"]["imagePullSecrets"] == pulls
