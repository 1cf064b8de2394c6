"""Reflection of kinds between two real control planes, with exactly the rights of `deploy/rbac`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from deploy import stack
from deploy.lab.cluster import LabCluster
from deploy.lab.lab import Lab
from deploy.lab.relay import Relay
from kube import config
from kube.client import Client
from tests.cluster.kinds.world import CONSUMER_ID, NODE, World

RBAC = "rbac.authorization.k8s.io"
USER = f"system:node:{NODE}"


@pytest.fixture(scope="session")
def roles(lab: Lab) -> None:
    """The roles; they are bound in each test's namespaces."""
    lab.consumer.kubectl("apply", "--server-side", "-f", stack.RBAC / "consumer-kinds.yaml")
    for file in ("provider.yaml", "provider-kinds.yaml"):
        lab.provider.kubectl("apply", "--server-side", "-f", stack.RBAC / file)


def bind(cluster: LabCluster, namespace: str, role: str, user: str) -> None:
    binding = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": role, "namespace": namespace},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": user}],
    }
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(binding))


@pytest.fixture
async def world(lab: Lab, roles: None, namespace: str, lab_gateway: str, tmp_path: Path) -> AsyncIterator[World]:
    remote_user = stack.provider_user(CONSUMER_ID)
    for role in ("isthmus-kinds", "isthmus-kinds-election"):
        bind(lab.consumer, namespace, role, USER)
    for role in (stack.REMOTE_ROLE, "isthmus-kinds-remote"):
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
