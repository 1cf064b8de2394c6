"""A managed provider: two real control planes, fake nodes, the provider's manager, and a consumer's credential."""

import json
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from deploy import stack
from deploy.lab import testing
from deploy.lab.components.kwok import HOLD_ANNOTATION
from deploy.lab.lab import Lab
from deploy.lab.paths import ROOT
from deploy.lab.process import Unit
from deploy.lab.settings import LabSettings
from tests.kubectl import Kubectl

Json = dict[str, Any]

CONSUMER_ID = "lab"
OTHER_ID = "other"
SHOP_ID, SPOILED_ID = "shop", "spoiled"
LONG = 120.0
_HERE = Path(__file__).parent
_RBAC = "rbac.authorization.k8s.io"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test pays for the lab."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="package")
def lab() -> Iterator[Lab]:
    with testing.temporary(LabSettings(nodes=0, kwok=2, audit="RequestResponse"), number=14) as made:
        stack.manage(made.provider)
        stack.admit(made.provider, consumer_id=CONSUMER_ID)
        stack.admit(made.provider, consumer_id=OTHER_ID)
        _own_namespace(made)
        yield made


@pytest.fixture(scope="package")
def node(lab: Lab, manager: Unit) -> Iterator[stack.VirtualNode]:
    """A virtual node in managed mode, of a consumer of its own."""
    stack.admit(lab.provider, consumer_id=SHOP_ID)
    made = stack.start(
        lab,
        node="managed-1",
        consumer_id=SHOP_ID,
        capacity={**stack.CAPACITY, "pods": "200"},
        options=["--mode=managed", "--namespace-linger=20", "--reference-linger=1"],
    )
    made.wait_ready(timeout=LONG)
    yield made
    made.unit.check_alive()
    made.unit.stop()


def _own_namespace(lab: Lab) -> None:
    """The manager's own, with its election."""
    admin = Kubectl(lab.provider.plan.binaries / "kubectl", lab.provider.admin_kubeconfig, "isthmus")
    admin.run("create", "namespace", "isthmus")
    admin.run("create", "role", "isthmus-manager", "--resource=leases.coordination.k8s.io", "--verb=get,create,update")
    admin.run("create", "rolebinding", "isthmus-manager", "--role=isthmus-manager", f"--user={stack.MANAGER_USER}")


@pytest.fixture(scope="package")
def manager(lab: Lab) -> Iterator[Unit]:
    """The provider's manager, running."""
    unit = start_manager(lab, "manager-a")
    yield unit
    unit.check_alive()
    unit.stop()


def start_manager(lab: Lab, name: str, *, lease: int = 120, server: str = "") -> Unit:
    """A manager. A machine that is busy with other tests may let it wait long; others take over after `lease` s."""
    host = lab.add_host(name)
    host.folder.mkdir(parents=True, exist_ok=True)
    file = lab.provider.client_kubeconfig(stack.MANAGER_USER, path=host.folder / "kubeconfig", server=server)
    argv = [
        *(sys.executable, "-m", "isthmus", "manager"),
        "--module=provider",
        f"--kubeconfig={file}",
        f"--identity={name}",
        f"--health-listen={host.ip}:10258",
        f"--lease-seconds={lease}",
    ]
    return host.start("manager", argv, env={"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"})


@dataclass(frozen=True)
class Tenant:
    """A consumer with its bare credential at the provider, and one of its namespaces there."""

    kubectl: Kubectl
    """As the consumer, in the mapped namespace."""
    admin: Kubectl
    """As the provider's administrator, there too."""
    consumer_id: str
    origin: str
    """The consumer's own name of the namespace."""

    @property
    def tenant(self) -> str:
        return f"isthmus-{self.consumer_id}"

    @property
    def namespace(self) -> str:
        return self.kubectl.namespace

    def shadow(self, name: str, *, held: bool = False, metadata: Json | None = None, **spec: Any) -> Json:
        """Create a ShadowPod as a virtual kubelet does."""
        return self.kubectl.create(shadow(name, held=held, metadata=metadata, **spec))

    def until(self, name: str, **status: object) -> Json:
        """The ShadowPod once its status has these."""
        return self.kubectl.wait_for(
            "shadowpod", name, lambda it: status.items() <= it["status"].items(), what=f"{name} {status}", timeout=LONG
        )

    def set_status(self, name: str, phase: str, *, restarts: int = 0) -> None:
        """Play the kubelet for a held pod."""
        ended = phase in ("Succeeded", "Failed")
        at = "2026-01-01T00:00:00Z"
        over = {"terminated": {"exitCode": int(phase == "Failed"), "startedAt": at, "finishedAt": at}}
        container = {
            "name": "main",
            "image": "none:1",
            "imageID": "none",
            "containerID": f"containerd://{restarts}",
            "ready": not ended,
            "restartCount": restarts,
            "state": over if ended else {"running": {"startedAt": at}},
        }
        body = json.dumps({"status": {"phase": phase, "containerStatuses": [container]}})
        self.admin.run("patch", "pod", name, "--subresource=status", "--type=merge", "-p", body)


def shadow(name: str, *, held: bool = False, metadata: Json | None = None, **spec: Any) -> Json:
    annotations = {HOLD_ANNOTATION: "true"} if held else {}
    given = metadata or {}
    return {
        "apiVersion": "offloading.isthmus.dev/v1alpha1",
        "kind": "ShadowPod",
        "metadata": {"name": name},
        "spec": {
            "deletionGracePeriodSeconds": 1,
            "pod": {
                "metadata": {**given, "annotations": {**annotations, **given.get("annotations", {})}},
                "spec": {"containers": [{"name": "main", "image": "none:1"}], **spec},
            },
        },
    }


def namespace_map(name: str, **spec: Any) -> Json:
    return {
        "apiVersion": "offloading.isthmus.dev/v1alpha1",
        "kind": "NamespaceMap",
        "metadata": {"name": name},
        "spec": {"namespaceMapping": "DefaultName", **spec},
    }


@pytest.fixture(scope="package")
def credentials(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kubectl]:
    """kubectl at the provider, by consumer; "" is the administrator."""
    binary, folder = lab.provider.plan.binaries / "kubectl", tmp_path_factory.mktemp("consumers")
    found = {"": Kubectl(binary, lab.provider.admin_kubeconfig)}
    for consumer_id in (CONSUMER_ID, OTHER_ID):
        file = lab.provider.client_kubeconfig(stack.provider_user(consumer_id), path=folder / consumer_id)
        found[consumer_id] = Kubectl(binary, file)
    return found


@pytest.fixture
def tenant(manager: Unit, credentials: dict[str, Kubectl]) -> Iterator[Tenant]:
    """A consumer with a fresh namespace at the provider."""
    yield from mapped(credentials, CONSUMER_ID)


@pytest.fixture(scope="module")
def neighbour(manager: Unit, credentials: dict[str, Kubectl]) -> Iterator[Tenant]:
    """Another consumer, with a namespace of its own."""
    yield from mapped(credentials, OTHER_ID)


def mapped(credentials: dict[str, Kubectl], consumer_id: str, *, prefix: str = "m") -> Iterator[Tenant]:
    origin = f"{prefix}-{uuid.uuid4().hex[:6]}"
    own, admin = credentials[consumer_id], credentials[""]
    desk = replace(own, namespace=f"isthmus-{consumer_id}")
    desk.create(namespace_map(origin))
    ready = desk.wait_for("namespacemap", origin, lambda it: it["status"]["conditions"][0]["status"] == "True")
    name = ready["status"]["namespace"]
    made = Tenant(replace(own, namespace=name), replace(admin, namespace=name), consumer_id, origin)
    made.admin.wait_for("serviceaccount", "default")
    yield made
    made.admin.delete("shadowpods", "--all", "--wait=false")
    admin_desk = replace(admin, namespace=f"isthmus-{consumer_id}")
    admin_desk.delete("namespacemap", origin, "--wait=false", "--ignore-not-found")
