"""Service account tokens: none by default; with --api-access the pod's own, bound to it and for as long as it lives."""

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from deploy import stack
from deploy.lab.lab import Lab
from tests import manifests as m
from tests.kubectl import Kubectl, eventually, ready

SLEEP = "trap 'exit 0' TERM; sleep 600 & wait"
FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_FOR = "offloading.isthmus.dev/token-for"
NODE = "virtual-2"
TAINT = {"key": "example.com/tokens", "operator": "Exists", "effect": "NoSchedule"}


@pytest.fixture(scope="module")
def api_node(lab: Lab, vnode: stack.VirtualNode) -> Iterator[stack.VirtualNode]:
    """A second virtual node, whose pods may use the consumer's API; its taint keeps other tests' pods away."""
    address = lab.consumer.url.removeprefix("https://")
    options = [f"--api-access={address}", "--taint=example.com/tokens=only:NoSchedule", "--namespace-linger=1"]
    node = stack.start(lab, node=NODE, options=options, log_level="debug")
    node.wait_ready()
    node.wait_serving()
    yield node
    node.remove()


def on_api_node(name: str, *containers: m.Manifest, **fields: Any) -> m.Manifest:
    where = {"nodeSelector": {"kubernetes.io/hostname": NODE}, "tolerations": [TAINT]}
    return m.pod(name, *containers or [m.shell("main", SLEEP)], **{**where, **fields})


def secrets_of(provider: Kubectl, pod: dict[str, Any]) -> list[dict[str, Any]]:
    return list(provider.list("secrets", "-l", f"{TOKEN_FOR}={pod['metadata']['uid']}"))


def read(kubectl: Kubectl, pod: str, file: str) -> str:
    return kubectl.run("exec", pod, "--", "cat", file)


def claims(token: str) -> dict[str, Any]:
    middle = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    return found


def accepted(kubectl: Kubectl, token: str, *audiences: str) -> bool:
    spec = {"token": token, "audiences": list(audiences)} if audiences else {"token": token}
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
    return kubectl.create(review)["status"].get("authenticated") is True


def test_without_api_access_a_pod_has_no_token(consumer: Kubectl, provider: Kubectl) -> None:
    volume = {"projected": {"sources": [{"serviceAccountToken": {"path": "token", "audience": "vault"}}]}}
    main = m.shell("main", SLEEP, volumeMounts=[{"name": "asked", "mountPath": "/asked"}])
    consumer.create(m.pod("bare", main, volumes=[{"name": "asked", **volume}]))
    consumer.wait_for("pod", "bare", ready)
    assert consumer.run("exec", "bare", "--", "sh", "-c", f"ls /asked; [ ! -e {FOLDER} ] && echo none") == "none\n"
    assert not provider.list("secrets")
    eventually(
        lambda: any(e["reason"] == "OffloadWithoutToken" for e in consumer.list("events")), what="the event about it"
    )


def test_a34_with_api_access_the_mounted_token_works_at_the_consumers_api_server(
    consumer: Kubectl, provider: Kubectl, api_node: stack.VirtualNode
) -> None:
    consumer.run("create", "serviceaccount", "reader")
    consumer.run("create", "role", "reader", "--verb=get", "--resource=configmaps")
    consumer.run("create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={consumer.namespace}:reader")
    consumer.apply(m.config_map("answer", value="42"))
    audience = {"projected": {"sources": [{"serviceAccountToken": {"path": "token", "audience": "vault"}}]}}
    main = m.shell("main", SLEEP, volumeMounts=[{"name": "vault", "mountPath": "/vault"}])
    volumes = [{"name": "vault", **audience}]
    consumer.create(on_api_node("caller", main, volumes=volumes, serviceAccountName="reader"))
    pod = consumer.wait_for("pod", "caller", ready)
    ask = (
        f"token=$(cat {FOLDER}/token); server=https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT; "
        f'wget -q -O - --no-check-certificate --header "Authorization: Bearer $token" '
        f'"$server/api/v1/namespaces/$(cat {FOLDER}/namespace)/configmaps/answer"'
    )
    answer = json.loads(consumer.run("exec", "caller", "--", "sh", "-c", ask))
    assert answer["data"] == {"value": "42"}
    assert (
        read(consumer, "caller", f"{FOLDER}/ca.crt") == consumer.get("configmap", "kube-root-ca.crt")["data"]["ca.crt"]
    )
    token = read(consumer, "caller", f"{FOLDER}/token")
    said = claims(token)["kubernetes.io"]
    assert said["pod"] == {"name": "caller", "uid": pod["metadata"]["uid"]}
    assert said["serviceaccount"]["name"] == "reader"
    other = read(consumer, "caller", "/vault/token")
    assert claims(other)["aud"] == ["vault"]
    assert 0 < claims(other)["exp"] - datetime.now(UTC).timestamp() <= 3600
    assert accepted(consumer, token)
    assert not accepted(consumer, other)
    assert accepted(consumer, other, "vault")
    assert len(secrets_of(provider, pod)) == 1
    consumer.delete("pod", "caller")
    eventually(lambda: not secrets_of(provider, pod), what="the token Secret to go with the pod")
    eventually(lambda: not accepted(consumer, token), what="the token to be worthless")


def test_a_pod_whose_service_account_gives_no_token_says_so(consumer: Kubectl, api_node: stack.VirtualNode) -> None:
    consumer.run("create", "serviceaccount", "brief")
    api_node.unit.pause()
    try:
        consumer.create(on_api_node("tokenless", m.shell("main", SLEEP), serviceAccountName="brief"))
        consumer.delete("serviceaccount", "brief")
    finally:
        api_node.unit.resume()
    refused = "spec.serviceAccountName: no token for service account 'brief': NotFound"
    consumer.wait_for("pod", "tokenless", lambda pod: refused in json.dumps(pod["status"]))
    eventually(
        lambda: any(e["reason"] == "OffloadRefused" and refused in e["message"] for e in consumer.list("events")),
        what="the event about it",
    )


def test_tokens_are_renewed_after_a_restart_and_those_of_lost_pods_removed(
    consumer: Kubectl, provider: Kubectl, api_node: stack.VirtualNode
) -> None:
    for name in ("stays", "goes"):
        consumer.create(on_api_node(name))
    pods = {name: consumer.wait_for("pod", name, ready) for name in ("stays", "goes")}
    (kept,) = secrets_of(provider, pods["stays"])
    expires = kept["metadata"]["annotations"]["offloading.isthmus.dev/expires"]
    left = datetime.fromisoformat(expires) - datetime.now(UTC)
    assert 0 < left.total_seconds() <= 3607
    old = read(consumer, "stays", f"{FOLDER}/token")
    api_node.unit.stop()
    # What a long absence looks like: the token is about to expire, and another pod's origin is gone.
    soon = datetime.now(UTC).replace(microsecond=0).isoformat()
    provider.run(
        "annotate", "secret", kept["metadata"]["name"], f"offloading.isthmus.dev/expires={soon}", "--overwrite"
    )
    consumer.delete("pod", "goes", "--force", "--grace-period=0")
    api_node.unit.start()
    api_node.wait_serving()
    eventually(lambda: read(consumer, "stays", f"{FOLDER}/token") != old, what="a new token in the pod", timeout=60)
    assert accepted(consumer, read(consumer, "stays", f"{FOLDER}/token"))
    provider.wait_gone("pod", "goes")
    eventually(lambda: not secrets_of(provider, pods["goes"]), what="the lost pod's tokens to go", timeout=40)
    (renewed,) = secrets_of(provider, pods["stays"])
    assert renewed["metadata"]["uid"] == kept["metadata"]["uid"]
    assert renewed["metadata"]["annotations"]["offloading.isthmus.dev/expires"] > expires
    provider.delete("secret", kept["metadata"]["name"])
    eventually(lambda: secrets_of(provider, pods["stays"]), what="a lost token Secret to be written again")


def test_tokens_are_not_in_the_log(api_node: stack.VirtualNode) -> None:
    log = api_node.unit.log.read_text()
    assert "virtual node starts" in log
    assert "eyJhbGciOi" not in log
