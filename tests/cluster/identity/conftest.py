"""A consumer and a provider with their managers, each with the rights of `deploy`; peering is by kubectl."""

from __future__ import annotations

import base64
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy import stack
from deploy.lab import testing
from deploy.lab.cluster import LabCluster
from deploy.lab.lab import Lab
from deploy.lab.paths import ROOT
from deploy.lab.process import Unit
from deploy.lab.settings import LabSettings
from tests.kubectl import Kubectl

Json = dict[str, Any]

CONSUMER_ID = "shop"
LONG = 120.0
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test pays for the lab."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="package")
def lab() -> Iterator[Lab]:
    with testing.temporary(LabSettings(nodes=0, kwok=2), number=15) as made:
        lend(made.provider)
        stack.lend(made.consumer)
        stack.borrow(made.consumer)
        yield made


def lend(provider: LabCluster) -> None:
    """Make a cluster ready for the manager of a provider."""
    stack.lend(provider)
    own = Kubectl(provider.plan.binaries / "kubectl", provider.admin_kubeconfig, "isthmus")
    own.run("create", "namespace", "isthmus")
    leases = ("--resource=leases.coordination.k8s.io", "--verb=get,create,update")
    own.run("create", "role", "isthmus-manager", *leases)
    own.run("create", "rolebinding", "isthmus-manager", "--role=isthmus-manager", f"--user={stack.MANAGER_USER}")


def start_manager(
    lab: Lab, cluster: LabCluster, name: str, *modules: str, options: tuple[str, ...] = (), server: str = ""
) -> Unit:
    """A manager with the rights of its service account. A machine busy with other tests may let its lease wait long."""
    host = lab.add_host(name)
    host.folder.mkdir(parents=True, exist_ok=True)
    file = cluster.client_kubeconfig(stack.MANAGER_USER, path=host.folder / "kubeconfig", server=server)
    argv = [
        *(sys.executable, "-m", "isthmus", "manager"),
        *(f"--module={module}" for module in modules),
        *(f"--kubeconfig={file}", "--health-listen=", f"--identity={name}", "--lease-seconds=120", *options),
    ]
    return host.start("manager", argv, env={"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"})


@pytest.fixture(scope="package")
def lender(lab: Lab) -> Iterator[Unit]:
    """The provider's manager."""
    options = (f"--advertise-server={lab.provider.url}",)
    unit = start_manager(lab, lab.provider, "lender", "tenants", "provider", options=options)
    yield unit
    unit.stop()


@pytest.fixture(scope="package")
def borrower(lab: Lab) -> Iterator[Unit]:
    """The consumer's manager, which has all modules of a cluster that lends as well."""
    options = (f"--consumer-id={CONSUMER_ID}", f"--advertise-server={lab.consumer.url}")
    unit = start_manager(lab, lab.consumer, "borrower", "peers", "tenants", "provider", options=options)
    yield unit
    unit.stop()


@dataclass(frozen=True)
class Peering:
    """Both administrators, and what passes between them: text."""

    consumer: Kubectl
    provider: Kubectl
    folder: Path
    name: str = "north"
    consumer_id: str = CONSUMER_ID

    def ask(self) -> str:
        """The consumer's administrator makes an Identity and reads the Tenant for the provider from it."""
        self.consumer.apply(identity(self.name))
        asked = self.consumer.wait_for("identity", self.name, lambda it: it["status"]["tenant"], timeout=LONG)
        return str(asked["status"]["tenant"])

    def answer(self, tenant: str) -> str:
        """The provider's administrator applies that, and reads the Identity for the consumer from it."""
        self.provider.run("apply", "-f", "-", stdin=tenant)
        return self.answered()

    def answered(self) -> str:
        """The provider's manifest for the consumer."""
        found = self.provider.wait_for("tenant", self.consumer_id, lambda it: it["status"]["identity"], timeout=LONG)
        return str(found["status"]["identity"])

    def exchange(self) -> None:
        """All of it."""
        self.enter(self.answer(self.ask()))

    def enter(self, manifest: str) -> Json:
        """The consumer's administrator applies the provider's answer."""
        self.consumer.run("apply", "-f", "-", stdin=manifest)
        return self.ready()

    def ready(self, *, user: str = "") -> Json:
        """The Identity once it is let in."""

        def let_in(it: Json) -> bool:
            said = condition(it)
            return bool(said["status"] == "True" and said["reason"] == "LetIn" and it["status"]["user"] != user)

        try:
            return self.consumer.wait_for("identity", self.name, let_in, what="to be let in", timeout=LONG)
        except AssertionError as error:
            raise AssertionError(f"{error}; {condition(self.consumer.get('identity', self.name))}") from error

    def look(self) -> None:
        """Let the consumer's manager look at the Identity now, and not in half a minute."""
        mark = f"looked-at={time.monotonic()}"
        self.consumer.run("annotate", "--overwrite", "identity", self.name, mark)

    def tenant(self, reason: str) -> Json:
        """The Tenant once its condition has this reason."""
        return self.provider.wait_for(
            "tenant", self.consumer_id, lambda it: condition(it)["reason"] == reason, what=reason, timeout=LONG
        )

    def credential(self, file: str = "credential") -> Kubectl:
        """kubectl at the provider with what the consumer holds now, as a virtual kubelet has it."""
        secret = self.consumer.get("secret", f"provider-{self.name}")
        return given(self.provider, secret["data"]["kubeconfig"], self.folder / file, f"isthmus-{self.consumer_id}")


def given(admin: Kubectl, encoded: str, path: Path, namespace: str) -> Kubectl:
    path.write_bytes(base64.b64decode(encoded))
    return Kubectl(admin.binary, path, namespace)


def identity(name: str, **spec: Any) -> Json:
    return {
        "apiVersion": "authentication.isthmus.dev/v1alpha1",
        "kind": "Identity",
        "metadata": {"name": name},
        "spec": {"method": "Exchange", **spec},
    }


def condition(found: Json, kind: str = "Ready") -> Json:
    """A condition of an object."""
    conditions: list[Json] = found["status"]["conditions"]
    return next(one for one in conditions if one["type"] == kind)


@pytest.fixture
def peering(lab: Lab, lender: Unit, borrower: Unit, tmp_path: Path) -> Iterator[Peering]:
    """Two clusters that know nothing of each other, and again in the end."""
    for unit in (lender, borrower):
        unit.check_alive()
    binary = lab.provider.plan.binaries / "kubectl"
    consumer = Kubectl(binary, lab.consumer.admin_kubeconfig, "isthmus")
    provider = Kubectl(binary, lab.provider.admin_kubeconfig, "isthmus")
    made = Peering(consumer, provider, tmp_path, name=f"north-{uuid.uuid4().hex[:4]}")
    yield made
    for unit in (lender, borrower):
        unit.check_alive()
    consumer.delete("slice", "--all", "--timeout=60s", timeout=90)
    consumer.delete("identity", "--all", "--timeout=60s", timeout=90)
    for side in (provider, consumer):
        side.delete("tenant", "--all", "--timeout=90s", timeout=120)
