"""isthmus between two clusters of the lab, with exactly the rights of `deploy/rbac`: for demo, tests and bench."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deploy.lab.cluster import LabCluster
from deploy.lab.errors import LabError
from deploy.lab.lab import Host, Lab
from deploy.lab.paths import ROOT
from deploy.lab.process import Unit, wait_until

RBAC = ROOT / "deploy" / "rbac"
POLICIES = ROOT / "deploy" / "policies"
MANAGER = ROOT / "deploy" / "manager"
CRDS = ROOT / "deploy" / "crds"
MANAGER_USER = "system:serviceaccount:isthmus:isthmus-manager"
KUBELET_PORT = 10250
HEALTH_PORT = 10248
CAPACITY = {"cpu": "4", "memory": "8Gi", "pods": "110"}
NAMESPACES_ROLE = "isthmus-virtual-kubelet-namespaces"
REMOTE_ROLE = "isthmus-virtual-kubelet-remote"
_NO_ANSWER = (LabError, OSError, http.client.HTTPException)


@dataclass(frozen=True, slots=True)
class VirtualNode:
    """A virtual kubelet that runs on a host of the lab."""

    name: str
    consumer: LabCluster
    provider: LabCluster
    host: Host
    unit: Unit

    def condition(self, kind: str = "Ready") -> dict[str, Any]:
        """A condition of the Node; empty if it has none."""
        try:
            node = self.consumer.api.request("GET", f"/api/v1/nodes/{self.name}")
        except _NO_ANSWER:
            return {}
        found: list[dict[str, Any]] = node["status"].get("conditions") or []
        return next((c for c in found if c["type"] == kind), {})

    def wait_ready(self, *, timeout: float = 60.0) -> None:
        """Until the Node is Ready; LabError with the end of the process's log otherwise."""
        try:
            wait_until(self._ready, what=f"node {self.name} to be Ready", timeout=timeout, every=0.1)
        except LabError as error:
            raise LabError(f"{error}; the end of its log:\n{self.unit.log_tail()}") from error

    def wait_serving(self, *, timeout: float = 60.0) -> None:
        """Until the kubelet API answers the consumer's API server."""
        path = f"/api/v1/nodes/{self.name}/proxy/healthz"
        wait_until(lambda: self._answers(path), what=f"the kubelet API of {self.name}", timeout=timeout, every=0.1)

    def remove(self) -> None:
        """Stop it, and remove its Node, which a stopped virtual kubelet leaves."""
        self.unit.stop()
        self.consumer.kubectl("delete", "node", self.name, "--ignore-not-found", "--wait=false")

    def _ready(self) -> bool:
        self.unit.check_alive()
        return self.condition().get("status") == "True"

    def _answers(self, path: str) -> bool:
        self.unit.check_alive()
        try:
            return self.consumer.api.text(path).strip() == "ok"
        except _NO_ANSWER:
            return False


def grant(provider: LabCluster, *, consumer_id: str) -> None:
    """At the provider: the roles of `deploy/rbac`, and the right to make namespaces for one consumer.

    An API server holds to a new policy only after a while (it reads policies by a watch, like any client), so the
    right is given when the policies are seen to refuse.
    """
    for file in ("provider.yaml", "kinds/provider.yaml", "provider-default-name.yaml"):
        provider.kubectl("apply", "--server-side", "-f", RBAC / file)
    wait_until(lambda: _policies_hold(provider, consumer_id), what="the policies to be in force", timeout=60)
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"isthmus-{consumer_id}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAMESPACES_ROLE},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": provider_user(consumer_id)}],
    }
    provider.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(binding))


def elect(provider: LabCluster, *, consumer_id: str) -> None:
    """At the provider: a namespace with the Lease by which one of a consumer's virtual kubelets acts for all."""
    namespace, role = f"isthmus-{consumer_id}", "isthmus-kinds-election"
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": role, "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": provider_user(consumer_id)}],
        },
    ]
    provider.kubectl("apply", "--server-side", "-f", "-", stdin="\n---\n".join(map(json.dumps, objects)))


def answer_names(provider: LabCluster, *, consumer_id: str) -> str:
    """At the provider: `deploy/dns` for one consumer, running. Gives the address of its Service. Needs `elect`."""
    namespace = f"isthmus-{consumer_id}"
    text = provider.kubectl("kustomize", ROOT / "deploy" / "dns")
    for placeholder, own in (("isthmus-consumer", namespace), ("isthmus:consumer", provider_user(consumer_id))):
        text = text.replace(placeholder, own)
    provider.kubectl("apply", "--server-side", "-f", "-", stdin=text)
    provider.kubectl(
        *("wait", "--for=condition=Available", f"--namespace={namespace}", "--timeout=120s", "deployment/isthmus-dns"),
        timeout=130,
    )
    found = provider.kubectl("get", "service", "isthmus-dns", f"--namespace={namespace}", "-o", "json")
    return str(json.loads(found)["spec"]["clusterIP"])


def _policies_hold(provider: LabCluster, consumer_id: str) -> bool:
    """Are both policies in force for a consumer? Asked by dry runs in its name, with every right that RBAC can give."""
    binding = ["rolebinding", "probe", "--clusterrole=view", "--serviceaccount=default:default", "--namespace=default"]
    return all(
        _refused(provider, consumer_id, kind, says=says)
        for kind, says in ((["namespace", "probe"], "its own label"), (binding, "that it made"))
    )


def _refused(provider: LabCluster, consumer_id: str, made: Sequence[str], *, says: str) -> bool:
    user = (f"--as={provider_user(consumer_id)}", "--as-group=system:masters")
    try:
        provider.kubectl("create", *made, "--dry-run=server", *user)
    except LabError as error:
        return says in str(error)
    return False


def confine(provider: LabCluster) -> None:
    """At the provider: the policies for what consumers make besides pods, seen to hold."""
    provider.kubectl("apply", "--server-side", "-k", POLICIES / "consumers")
    wait_until(lambda: _confined(provider), what="the consumers' policies", timeout=60)


def _confined(provider: LabCluster) -> bool:
    user = (f"--as={provider_user('probe')}", "--as-group=system:masters", "--dry-run=server")
    service = ["service", "externalname", "probe", "--external-name=probe.example", *user]
    secret = ["secret", "generic", "probe", "--type=helm.sh/release.v1", *user]
    ingress = ["ingress", "probe", "--rule=*.probe.example/=probe:80", *user]
    told = ((service, "ExternalName"), (secret, "may not make a Secret"), (ingress, "wildcard"))
    return all(_says(provider, made, text) for made, text in told)


def grant_namespace(provider: LabCluster, namespace: str, *, consumer_id: str) -> None:
    """At the provider: one namespace, and the right to work in it, for a fixed mapping."""
    provider.kubectl("apply", "--server-side", "-f", RBAC / "provider.yaml")
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": REMOTE_ROLE, "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": REMOTE_ROLE},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": provider_user(consumer_id)}],
        },
    ]
    provider.kubectl("apply", "--server-side", "-f", "-", stdin="\n---\n".join(map(json.dumps, objects)))


def manage(provider: LabCluster) -> None:
    """Make a cluster ready to be a managed provider: kinds, roles, and the policies seen to hold."""
    provider.kubectl("apply", "--server-side", "-k", CRDS)
    provider.kubectl("wait", "--for=condition=Established", "crd", "namespacemaps.offloading.isthmus.dev")
    provider.kubectl("wait", "--for=condition=Established", "crd", "shadowpods.offloading.isthmus.dev")
    for folder in (RBAC / "managed", RBAC / "kinds", POLICIES / "managed", POLICIES / "consumers"):
        provider.kubectl("apply", "--server-side", "-k", folder)
    confine(provider)
    probe = ["namespace", "probe", "--dry-run=server", f"--as={MANAGER_USER}", "--as-group=system:masters"]
    wait_until(lambda: _says(provider, probe, "made for consumers"), what="the manager's policy", timeout=60)
    for plural in ("namespacemaps", "shadowpods"):
        wait_until(lambda plural=plural: _answers(provider, plural), what=plural, timeout=60, every=0.1)  # type: ignore[misc]  # a default argument


def lend(provider: LabCluster) -> None:
    """Make a cluster ready to have Tenants: a managed provider, with the roles and the flow of `deploy`."""
    manage(provider)
    provider.kubectl("apply", "--server-side", "-k", RBAC / "tenants")
    provider.kubectl("apply", "--server-side", "-k", POLICIES / "tenants")
    for plural in ("tenants", "credentialrequests", "slice"):
        wait_until(lambda plural=plural: _answers(provider, plural), what=plural, timeout=60, every=0.1)  # type: ignore[misc]  # a default argument


def borrow(consumer: LabCluster) -> None:
    """Make a cluster ready to have Identities."""
    consumer.kubectl("apply", "--server-side", "--force-conflicts", "-k", CRDS)
    consumer.kubectl("apply", "--server-side", "-k", RBAC / "peers")
    for file in ("base/namespace.yaml", "base/account.yaml", "consumer/rbac.yaml"):
        consumer.kubectl("apply", "--server-side", "-f", MANAGER / file)
    for plural in ("identities", "virtualnodes", "slice"):
        wait_until(lambda plural=plural: _answers(consumer, plural), what=plural, timeout=60, every=0.1)  # type: ignore[misc]  # a default argument


def _says(provider: LabCluster, made: Sequence[str], text: str) -> bool:
    try:
        provider.kubectl("create", *made)
    except LabError as error:
        return text in str(error)
    return False


def _answers(provider: LabCluster, plural: str) -> bool:
    """Whether a new kind is served: a moment after it is said to be established."""
    try:
        provider.kubectl("get", plural, "-A")
    except LabError:
        return False
    return True


def admit(provider: LabCluster, *, consumer_id: str) -> str:
    """At a managed provider: a consumer's tenant namespace, and its rights there. Gives the namespace's name."""
    namespace = f"isthmus-{consumer_id}"
    role = "isthmus-managed-tenant"
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": role, "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": provider_user(consumer_id)}],
        },
    ]
    provider.kubectl("apply", "--server-side", "-f", "-", stdin="\n---\n".join(map(json.dumps, objects)))
    return namespace


def provider_user(consumer_id: str) -> str:
    """The consumer's user name at the provider, by the convention of `provider-default-name.yaml`."""
    return f"isthmus:{consumer_id}"


def start(
    lab: Lab,
    *,
    node: str = "virtual-1",
    provider: str = "provider",
    consumer_id: str = "lab",
    capacity: Mapping[str, str] = CAPACITY,
    options: Sequence[str] = (),
    consumer_server: str = "",
    provider_server: str = "",
    provider_kubeconfig: Path | None = None,
    log_level: str = "info",
    source: Path = ROOT,
) -> VirtualNode:
    """Start a virtual kubelet on a host of its own. `*_server` puts a relay or proxy before an API server.

    `provider_kubeconfig` is one to use instead of that of `provider_user`; `source` is the folder of the program, where
    another one than ours holds an earlier version.
    """
    host = lab.add_host(node, nodes=[node])
    consumer, remote = lab.consumer, lab.clusters[provider]
    files = host.folder
    files.mkdir(parents=True, exist_ok=True)
    own = consumer.client_kubeconfig(
        f"system:node:{node}", groups=["system:nodes"], path=files / "consumer.kubeconfig", server=consumer_server
    )
    theirs = provider_kubeconfig or remote.client_kubeconfig(
        provider_user(consumer_id), path=files / f"{provider}.kubeconfig", server=provider_server
    )
    argv = [
        *(sys.executable, "-P", "-m", "isthmus", "virtual-kubelet"),
        f"--node-name={node}",
        f"--consumer-id={consumer_id}",
        f"--consumer-kubeconfig={own}",
        f"--provider-kubeconfig={theirs}",
        f"--listen={host.ip}:{KUBELET_PORT}",
        f"--health-listen={host.ip}:{HEALTH_PORT}",
        f"--client-ca-file={consumer.ca.files.certificate}",
        f"--state-directory={files / 'state'}",
        f"--log-level={log_level}",
        *(f"--capacity={name}={amount}" for name, amount in capacity.items()),
        *options,
    ]
    unit = host.start("virtual-kubelet", argv, env=_environment(source))
    return VirtualNode(node, consumer, remote, host, unit)


def exchange(node: VirtualNode, source: Path) -> None:
    """Put another version of the program in place of a virtual kubelet that runs, as its Deployment would."""
    node.unit.stop()
    Unit(replace(node.unit.spec, env=_environment(source)), node.host.folder).start()


def _environment(source: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(source), "PYTHONUNBUFFERED": "1"}


def manifest(name: str) -> Path:
    """A manifest of `deploy/examples`."""
    return ROOT / "deploy" / "examples" / f"{name}.yaml"
