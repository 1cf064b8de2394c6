"""Everything is declared: one folder for each cluster, applied in any order and more than once, compared, and deleted.

The consumer's folder is isthmus and, beside it, what its users wrote; the provider's is what lets the consumer in.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from deploy import stack
from deploy.lab.lab import Lab
from tests import manifests as m
from tests.kubectl import Kubectl, admin, eventually, ready
from tests.lab.application.conftest import CONSUMER_ID, LONG, MANIFESTS, Json, virtual_node
from tests.lab.uninstall import delete_until_allowed

NAMESPACE = "declared"
_RBAC = ("provider.yaml", "kinds/provider.yaml", "provider-default-name.yaml")
_API = "rbac.authorization.k8s.io"
_CLUSTER_WIDE = (
    *("namespaces", "nodes", "persistentvolumes", "storageclasses", "csidrivers", "runtimeclasses", "crds"),
    *("clusterroles", "clusterrolebindings", "mutatingwebhookconfigurations", "validatingwebhookconfigurations"),
    *("validatingadmissionpolicies", "validatingadmissionpolicybindings", "priorityclasses"),
)
_FIRST_CRDS = "ensure CRDs are installed first"
"""What kubectl says of an object whose kind the same folder makes; all else is applied, and the next time it too."""


@dataclass(frozen=True)
class Side:
    """One cluster and its folder."""

    kubectl: Kubectl
    folder: Path
    server_side: bool

    def apply(self, *, again: bool = False) -> None:
        """`kubectl apply -k`; the first time kinds may be too new."""
        flags = ["--server-side"] if self.server_side else []
        done = self.kubectl.result("apply", *flags, "-k", str(self.folder), timeout=LONG)
        said = [line for line in done.stderr.decode().splitlines() if not line.startswith("Warning: ")]
        if not again:
            said = [line for line in said if _FIRST_CRDS not in line and "no matches for kind" not in line]
        assert not said, said
        assert not again or done.returncode == 0

    def drift(self) -> str:
        """What `kubectl diff` shows."""
        # What was applied by the client is compared by the client: a change of sides is a change of the object.
        flags = ["--server-side", "--force-conflicts"] if self.server_side else []
        done = self.kubectl.result("diff", *flags, "-k", str(self.folder), timeout=LONG)
        assert done.returncode in (0, 1), done.stderr.decode()
        return done.stdout.decode()

    def delete(self, part: str = "") -> None:
        """`kubectl delete -k` of the folder or a part of it, until all of it is gone."""
        self.kubectl.delete("--ignore-not-found", "-k", str(self.folder / part), timeout=180)

    def delete_until_gone(self, before: set[str]) -> None:
        """`kubectl delete -k` of everything at once, again and again: isthmus is kept until it has taken all back."""
        first = self.kubectl.result("delete", "--ignore-not-found", "-k", str(self.folder), timeout=180)
        assert b"isthmus is in use" in first.stderr, first.stderr.decode()

        def gone() -> bool:
            self.kubectl.result("delete", "--ignore-not-found", "-k", str(self.folder), timeout=180)
            return self.objects() == before

        eventually(gone, what="everything to be gone", timeout=180, every=2.0)

    def objects(self) -> set[str]:
        """All objects that are in no namespace, but for requests of certificates: those go by their age."""
        return set(self.kubectl.run("get", ",".join(_CLUSTER_WIDE), "-o", "name").split())


def write(folder: Path, resources: list[str], objects: list[Json], **more: object) -> None:
    folder.mkdir(parents=True)
    (folder / "objects.yaml").write_text(yaml.safe_dump_all(objects))
    kustomization = {"resources": [*resources, "objects.yaml"], **more}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))


def provider_folder(folder: Path) -> None:
    """The roles of deploy/rbac, and the consumer's rights."""
    user = {"apiGroup": _API, "kind": "User", "name": stack.provider_user(CONSUMER_ID)}
    tenant = f"isthmus-{CONSUMER_ID}"
    bindings = (
        ("ClusterRoleBinding", {"name": tenant}, stack.NAMESPACES_ROLE),
        ("RoleBinding", {"name": "election", "namespace": tenant}, "isthmus-kinds-election"),
    )
    objects: list[Json] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": tenant}}]
    for kind, metadata, role in bindings:
        ref = {"apiGroup": _API, "kind": "ClusterRole", "name": role}
        objects.append(
            {"apiVersion": f"{_API}/v1", "kind": kind, "metadata": metadata, "roleRef": ref, "subjects": [user]}
        )
    write(folder, [file.replace("/", "-") for file in _RBAC], objects)
    for file in _RBAC:
        shutil.copy(stack.RBAC / file, folder / file.replace("/", "-"))


def consumer_folder(folder: Path, kubeconfig: Path) -> None:
    """isthmus, and in a folder of its own what its users want of it."""
    deployment = m.workload("Deployment", "web", replicas=2)
    deployment["metadata"]["namespace"] = NAMESPACE
    offloading = {
        "apiVersion": "offloading.isthmus.dev/v1alpha1",
        "kind": "NamespaceOffloading",
        "metadata": {"name": "offloading", "namespace": NAMESPACE},
        "spec": {"podStrategy": "Remote"},
    }
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    secret = {"name": "north", "namespace": "isthmus", "files": ["kubeconfig"]}
    objects = [namespace, offloading, deployment, virtual_node("north", provider="north")]
    write(
        folder / "users",
        [],
        objects,
        secretGenerator=[secret],
        generatorOptions={"disableNameSuffixHash": True},
    )
    shutil.copy(kubeconfig, folder / "users" / "kubeconfig")
    isthmus = os.path.relpath(MANIFESTS, folder)
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({"resources": [isthmus, "users"]}))


@pytest.fixture
def folders(lab: Lab, tmp_path: Path) -> Iterator[dict[str, Path]]:
    file = lab.provider.client_kubeconfig(stack.provider_user(CONSUMER_ID), path=tmp_path / "kubeconfig")
    consumer_folder(tmp_path / "consumer", file)
    provider_folder(tmp_path / "provider")
    yield {"consumer": tmp_path / "consumer", "provider": tmp_path / "provider"}
    # Nothing to do after a test that passed.
    for name, part in (("consumer", "consumer/users"), ("consumer", "consumer"), ("provider", "provider")):
        kubectl = admin(lab.clusters[name], "")
        kubectl.result("delete", "--ignore-not-found", "-k", str(tmp_path / part), timeout=180)


@pytest.mark.parametrize(
    ("order", "server_side"),
    [(("consumer", "provider"), True), (("provider", "consumer"), False)],
    ids=["consumer-first", "provider-first"],
)
def test_a_folder_on_each_side_is_all_there_is_to_it(
    lab: Lab, folders: dict[str, Path], order: tuple[str, str], server_side: bool
) -> None:
    sides = {name: Side(admin(lab.clusters[name], ""), folder, server_side) for name, folder in folders.items()}
    consumer, provider = sides["consumer"], sides["provider"]
    before = {name: side.objects() for name, side in sides.items()}
    for name in order:
        sides[name].apply()
    consumer.kubectl.run("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s", timeout=70)
    for name in order:
        sides[name].apply(again=True)

    app = admin(lab.consumer, NAMESPACE)

    def settled() -> bool:
        pods = [pod for pod in app.list("pods") if ready(pod)]
        return [pod["spec"]["nodeName"] for pod in pods] == ["north"] * 2

    eventually(settled, what="the application at the provider", timeout=LONG, every=0.5)
    for kind in ("virtualnode/north", f"namespaceoffloading/offloading --namespace={NAMESPACE}"):
        app.run("wait", "--for=condition=Ready", "--timeout=60s", *kind.split(), timeout=70)
    uids = {pod["metadata"]["uid"] for pod in app.list("pods")}
    for name in order:
        sides[name].apply(again=True)
        assert not sides[name].drift(), "nothing that runs here changes what was declared"
    assert uids == {pod["metadata"]["uid"] for pod in app.list("pods")}, "to apply again moves nothing"

    if server_side:
        consumer.delete("users")
        assert f"namespace/{NAMESPACE}-{CONSUMER_ID}" not in provider.objects()
        delete_until_allowed(consumer.kubectl, MANIFESTS)
    else:
        consumer.delete_until_gone(before["consumer"])
        assert f"namespace/{NAMESPACE}-{CONSUMER_ID}" not in provider.objects()
    provider.delete()
    for name, side in sides.items():
        assert side.objects() == before[name]
