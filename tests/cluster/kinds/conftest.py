"""Reflection of kinds between two real control planes, with exactly the rights of `deploy/rbac`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from deploy import stack
from deploy.lab.cluster import LabCluster
from deploy.lab.lab import Lab
from deploy.lab.relay import Relay
from kube import config
from kube.client import Client
from tests.cluster.kinds.cases import WIDGETS
from tests.cluster.kinds.world import CONSUMER_ID, NODE, World

RBAC = "rbac.authorization.k8s.io"
CONFIGURED = "kinds-configured"
USER = f"system:node:{NODE}"


@pytest.fixture(scope="package")
def roles(lab: Lab) -> None:
    """The roles; they are bound in each test's namespaces."""
    lab.consumer.kubectl("apply", "--server-side", "-f", stack.RBAC / "consumer-kinds.yaml")
    for file in ("provider.yaml", "kinds/provider.yaml"):
        lab.provider.kubectl("apply", "--server-side", "-f", stack.RBAC / file)
    for cluster in (lab.consumer, lab.provider):
        objects = "\n---\n".join(map(json.dumps, (_definition(), _configured())))
        cluster.kubectl("apply", "--server-side", "-f", "-", stdin=objects)
        cluster.kubectl("wait", "--for=condition=Established", "crd/widgets.example.org", "--timeout=60s")


def _definition() -> dict[str, Any]:
    """The custom resource that these tests reflect."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": WIDGETS.version,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{WIDGETS.plural}.{WIDGETS.group}"},
        "spec": {
            "group": WIDGETS.group,
            "scope": "Namespaced",
            "names": {"plural": WIDGETS.plural, "kind": WIDGETS.kind},
            "versions": [version],
        },
    }


def _configured() -> dict[str, Any]:
    """Rights for the kinds that are reflected only where the configuration says so."""
    verbs = ["get", "list", "watch", "create", "update", "patch", "delete"]
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": CONFIGURED},
        "rules": [
            {"apiGroups": [WIDGETS.group], "resources": ["widgets", "widgets/status", "gadgets"], "verbs": verbs},
            {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": verbs},
        ],
    }


def bind(cluster: LabCluster, namespace: str, role: str, user: str, *, name: str = "") -> None:
    binding = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name or role, "namespace": namespace},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": user}],
    }
    cluster.api.apply(binding)


@pytest.fixture
async def world(lab: Lab, roles: None, namespace: str, lab_gateway: str, tmp_path: Path) -> AsyncIterator[World]:
    remote_user = stack.provider_user(CONSUMER_ID)
    for role in ("isthmus-kinds", CONFIGURED):
        bind(lab.consumer, namespace, role, USER)
    for role in (stack.REMOTE_ROLE, "isthmus-kinds-remote", "isthmus-kinds-election", CONFIGURED):
        bind(lab.provider, namespace, role, remote_user)
    async with AsyncExitStack() as held:
        relay = await held.enter_async_context(Relay.running((lab.provider.plan.site.ip, 6443), host=lab_gateway))
        files = {
            "consumer": lab.consumer.client_kubeconfig(USER, groups=["system:nodes"], path=tmp_path / "consumer"),
            "provider": lab.provider.client_kubeconfig(remote_user, path=tmp_path / "provider", server=relay.url),
            "admin": lab.consumer.admin_kubeconfig,
            "remote-admin": lab.provider.admin_kubeconfig,
        }
        clients = {}
        for name, file in files.items():
            credentials = await config.load(kubeconfig=str(file))
            clients[name] = await held.enter_async_context(Client.connect(credentials, name=name))
        yield World(
            namespace=namespace,
            consumer=clients["consumer"],
            provider=clients["provider"],
            admin=clients["admin"],
            remote_admin=clients["remote-admin"],
            relay=relay,
        )
