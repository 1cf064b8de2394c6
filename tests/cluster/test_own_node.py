"""What the identity of a virtual node may not do at its own cluster (abuse A9): NodeRestriction and the Node authoriser
hold it, asked of a real API server with the very rights that `deploy/rbac` adds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from deploy import stack
from deploy.lab.lab import Lab
from tests.kubectl import Kubectl, admin

NODE, OTHER = "a9-own", "a9-other"
RBAC = "rbac.authorization.k8s.io"
Json = dict[str, Any]


def node(name: str) -> Json:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}


def pod(name: str, where: str, **fields: Any) -> Json:
    """A pod as a kubelet shows a static one, unless told otherwise."""
    metadata = {"name": name, "annotations": {"kubernetes.io/config.mirror": "x", "kubernetes.io/config.hash": "x"}}
    owner = {"apiVersion": "v1", "kind": "Node", "name": where, "uid": "x", "controller": True}
    spec = {"nodeName": where, "containers": [{"name": "main", "image": "none:1"}], **fields.pop("spec", {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**metadata, "ownerReferences": [owner], **fields},
        "spec": spec,
    }


@pytest.fixture(scope="module")
def own(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """kubectl as the virtual node, with all that a manager binds to it."""
    root = admin(lab.consumer, "default")
    root.run("apply", "--server-side", "--force-conflicts", "-k", str(stack.CRDS))
    root.run("wait", "--for=condition=Established", "crd", "--all")
    for file in ("consumer-kinds.yaml", "consumer-offloadings.yaml"):
        root.run("apply", "--server-side", "-f", str(stack.RBAC / file))
    for role in ("isthmus-kinds-nodes", "isthmus-namespace-offloadings"):
        root.run("create", "clusterrolebinding", f"a9-{role}", f"--clusterrole={role}", f"--user=system:node:{NODE}")
    root.run("create", "namespace", "a9")
    root.run("create", "namespace", "a9-elsewhere")
    role = "isthmus-kinds"
    root.run("create", "rolebinding", role, f"--clusterrole={role}", f"--user=system:node:{NODE}", "--namespace=a9")
    for namespace in ("a9", "a9-elsewhere"):
        root.run("create", "secret", "generic", "treasure", "--from-literal=a=b", f"--namespace={namespace}")
        Kubectl(root.binary, root.kubeconfig, namespace).wait_for("serviceaccount", "default")
    for name in (NODE, OTHER):
        root.create(node(name))
    config = tmp_path_factory.mktemp("a9") / "kubeconfig"
    lab.consumer.client_kubeconfig(f"system:node:{NODE}", groups=["system:nodes"], path=config)
    yield Kubectl(root.binary, config, "a9")
    for name in (NODE, OTHER):
        root.delete("node", name, "--ignore-not-found")
    root.delete("namespace", "a9", "a9-elsewhere", "--wait=false")
    for bound in ("isthmus-kinds-nodes", "isthmus-namespace-offloadings"):
        root.delete("clusterrolebinding", f"a9-{bound}")


def patch(what: str, name: str, body: Json, *more: str) -> tuple[str, ...]:
    return ("patch", what, name, "--type=merge", "-p", json.dumps(body), *more)


OWNER = {"apiVersion": "v1", "kind": "Node", "name": OTHER, "uid": "x"}
ATTEMPTS: dict[str, tuple[str, ...]] = {
    "change another Node": patch("node", OTHER, {"metadata": {"labels": {"x": "y"}}}),
    "write another Node's status": patch("node", OTHER, {"status": {"capacity": {"cpu": "1"}}}, "--subresource=status"),
    "remove another Node": ("delete", "node", OTHER),
    "remove its own Node": ("delete", "node", NODE),
    "be owned by somebody": patch("node", NODE, {"metadata": {"ownerReferences": [OWNER]}}),
    "call itself a node of another sort": patch(
        "node", NODE, {"metadata": {"labels": {"node-restriction.kubernetes.io/tier": "secure"}}}
    ),
    "take its taints off": patch("node", NODE, {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}),
    "read a Secret of a namespace that is not offloaded": ("get", "secret", "treasure", "--namespace=a9-elsewhere"),
    "list Secrets everywhere": ("get", "secrets", "--all-namespaces"),
    "write a Secret": ("create", "secret", "generic", "mine"),
    "change a Service": ("create", "service", "clusterip", "mine", "--tcp=80"),
    "take a token of an account without a pod here": ("create", "token", "default"),
    "list pods of other nodes": ("get", "pods", "--all-namespaces"),
    "remove another's lease": ("delete", "lease", OTHER, "--namespace=kube-node-lease"),
    "take an offloading back": ("delete", "namespaceoffloading", "offloading"),
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_a9_the_nodes_own_identity_is_refused(own: Kubectl, attempt: str) -> None:
    done = own.result(*ATTEMPTS[attempt])
    said = done.stderr.decode()
    assert done.returncode != 0, attempt
    assert "orbidden" in said or "not allowed" in said, said


SECRET_VOLUME = {"volumes": [{"name": "v", "secret": {"secretName": "treasure"}}]}
PODS = {
    "on another node": pod("shadow", OTHER),
    "that is no static pod's shadow": pod("shadow", NODE, annotations={}),
    "with a Secret": pod("shadow", NODE, spec=SECRET_VOLUME),
    "with an account": pod("shadow", NODE, spec={"serviceAccountName": "default"}),
}


@pytest.mark.parametrize("sort", PODS)
def test_a9_the_nodes_own_identity_makes_no_pod(own: Kubectl, sort: str) -> None:
    done = own.result("create", "-f", "-", stdin=json.dumps(PODS[sort]).encode())
    assert done.returncode != 0
    assert "orbidden" in done.stderr.decode(), done.stderr.decode()


def test_a9_what_it_is_there_for_it_may(own: Kubectl) -> None:
    """So that the refusals above are not those of a credential that is good for nothing."""
    own.run(*patch("node", NODE, {"metadata": {"labels": {"example.org/x": "y"}}}))
    assert own.get("secret", "treasure")["data"] == {"a": "Yg=="}, "its namespace is offloaded"
    own.run("get", "nodes")
