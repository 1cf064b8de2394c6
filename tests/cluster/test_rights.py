"""What the credentials of `deploy/rbac` do not allow, asked of real API servers; and a dry run that writes nothing."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploy import stack
from deploy.lab.lab import Lab
from deploy.lab.paths import ROOT
from tests import manifests as m
from tests.kubectl import Kubectl

CONSUMER_ID = "rights"


@pytest.fixture(scope="module")
def tenant(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """kubectl at the provider with the right to make namespaces, and no more."""
    stack.grant(lab.provider, consumer_id=CONSUMER_ID)
    file = tmp_path_factory.mktemp("tenant") / "kubeconfig"
    lab.provider.client_kubeconfig(stack.provider_user(CONSUMER_ID), path=file)
    return Kubectl(lab.provider.plan.binaries / "kubectl", file)


@pytest.fixture(scope="module")
def admin(lab: Lab) -> Kubectl:
    return Kubectl(lab.provider.plan.binaries / "kubectl", lab.provider.admin_kubeconfig)


def namespace(name: str, **labels: str) -> m.Manifest:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def binding(namespace: str, role: str, user: str) -> m.Manifest:
    api = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{api}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "mine", "namespace": namespace},
        "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": api, "kind": "User", "name": user}],
    }


@pytest.fixture(scope="module")
def own(tenant: Kubectl, admin: Kubectl) -> Iterator[str]:
    """A namespace that the tenant made as it should."""
    name = f"web-{CONSUMER_ID}"
    tenant.create(namespace(name, **{"offloading.isthmus.dev/consumer": CONSUMER_ID}))
    yield name
    admin.delete("namespace", name, "--wait=false")


@pytest.mark.parametrize(
    ("name", "labels", "said"),
    [
        ("web-other", {"offloading.isthmus.dev/consumer": CONSUMER_ID}, "are called"),
        (f"web2-{CONSUMER_ID}", {"offloading.isthmus.dev/consumer": "other"}, "its own label"),
        (f"web2-{CONSUMER_ID}", {}, "its own label"),
        (
            f"web2-{CONSUMER_ID}",
            {
                "offloading.isthmus.dev/consumer": CONSUMER_ID,
                "pod-security.kubernetes.io/enforce": "privileged",
            },
            "pod security level",
        ),
    ],
)
def test_a20_a_consumer_makes_no_namespace_but_its_own(
    tenant: Kubectl, name: str, labels: dict[str, str], said: str
) -> None:
    refused = tenant.result("create", "-f", "-", stdin=json.dumps(namespace(name, **labels)).encode())
    assert refused.returncode != 0
    assert said in refused.stderr.decode()


def test_a20_a_consumer_removes_no_namespace_but_its_own(tenant: Kubectl, admin: Kubectl) -> None:
    admin.create(namespace(f"foreign-{CONSUMER_ID}"))
    try:
        assert b"its own label" in tenant.result("delete", "namespace", f"foreign-{CONSUMER_ID}").stderr
        assert tenant.result("delete", "namespace", "kube-system").returncode != 0
    finally:
        admin.delete("namespace", f"foreign-{CONSUMER_ID}", "--wait=false")


def test_a20_a_consumer_binds_its_role_to_itself_in_its_own_namespace_only(tenant: Kubectl, own: str) -> None:
    user = stack.provider_user(CONSUMER_ID)

    def refusal(made: m.Manifest) -> str:
        where = f"--namespace={made['metadata']['namespace']}"
        return tenant.result(where, "create", "-f", "-", stdin=json.dumps(made).encode()).stderr.decode()

    assert "that it made" in refusal(binding("kube-system", stack.REMOTE_ROLE, user))
    assert "that it made" in refusal(binding("default", stack.REMOTE_ROLE, user))
    assert refusal(binding(own, "cluster-admin", user))
    assert "to itself and nothing else" in refusal(binding(own, stack.REMOTE_ROLE, "somebody"))
    assert refusal(binding(own, stack.REMOTE_ROLE, user)) == ""


@pytest.mark.parametrize(
    "question",
    [
        "list secrets --all-namespaces",
        "create pods -n default",
        "get secrets -n kube-system",
        "list nodes",
        "create customresourcedefinitions",
        "create tokenreviews",
        "create clusterrolebindings",
        "impersonate users",
        "update namespaces",
        "create serviceaccounts/token -n default",
    ],
)
def test_a20_a_consumer_has_no_right_beyond_its_role(tenant: Kubectl, question: str) -> None:
    assert tenant.result("auth", "can-i", *question.split()).stdout.strip() == b"no"


@pytest.fixture(scope="module")
def confined(lab: Lab, own: str, tenant: Kubectl, admin: Kubectl) -> Iterator[Kubectl]:
    """kubectl in the tenant's namespace with all rights of direct mode, and the policies for consumers in force."""
    stack.confine(lab.provider)
    for role in (stack.REMOTE_ROLE, "isthmus-kinds-remote"):
        made = binding(own, role, stack.provider_user(CONSUMER_ID))
        made["metadata"]["name"] = f"confined-{role}"
        replace(admin, namespace=own).run("create", "-f", "-", stdin=json.dumps(made))
    yield replace(tenant, namespace=own)
    admin.delete("-k", str(stack.POLICIES / "consumers"), "--wait=false")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("service externalname probe --external-name=metadata.internal", "spec.type"),  # a22
        ("secret generic probe --type=helm.sh/release.v1", "use type Opaque"),  # a24
        ("ingress probe --rule=*.example.org/=web:80", "wildcard"),  # a28
    ],
)
def test_a22_a24_a28_the_policies_for_consumers_hold_in_direct_mode(confined: Kubectl, command: str, said: str) -> None:
    assert said in confined.result("create", *command.split(), "--dry-run=server").stderr.decode()


def test_a27_in_direct_mode_nothing_bears_the_name_of_another_consumer(confined: Kubectl) -> None:
    labels = {"offloading.isthmus.dev/consumer": "victim"}
    forged = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "labels": labels}}
    said = confined.result("create", "--dry-run=server", "-f", "-", stdin=json.dumps(forged).encode()).stderr.decode()
    assert "can't bear the name of another" in said


def test_a_dry_run_prints_the_plan_and_writes_nothing(lab: Lab, namespace: str, tmp_path: Path) -> None:
    consumer = Kubectl(lab.consumer.plan.binaries / "kubectl", lab.consumer.admin_kubeconfig, namespace)
    consumer.create(m.pod("plain", nodeName="virtual-plan", virtual=False))
    consumer.create(m.pod("rooted", nodeName="virtual-plan", virtual=False, hostNetwork=True))
    own = lab.consumer.client_kubeconfig("system:node:virtual-plan", groups=["system:nodes"], path=tmp_path / "own")
    theirs = lab.provider.client_kubeconfig(stack.provider_user("plan"), path=tmp_path / "theirs")
    command = [
        *(sys.executable, "-m", "isthmus", "virtual-kubelet", "--dry-run", "--node-name=virtual-plan"),
        *("--consumer-id=plan", f"--consumer-kubeconfig={own}", f"--provider-kubeconfig={theirs}"),
        *("--listen=127.0.0.1:10250", "--node-address=198.18.0.250", "--capacity=cpu=4"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "kind: Node" in done.stdout
    assert f"# for pod {namespace}/plain, at the provider" in done.stdout
    assert f"# pod {namespace}/rooted would be refused: spec.hostNetwork" in done.stdout
    assert not consumer.exists("node", "virtual-plan")
    assert consumer.get("pod", "plain")["status"].get("phase") == "Pending"
