"""Providers' kubeconfigs stay while VirtualNodes need them, whoever deletes them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from deploy.lab.cluster import LabCluster
from kube import config
from kube.client import Client
from kube.errors import ApiError
from kube.objects import Secret
from kube.resources import SECRETS
from vk.virtualnode.credentials import FINALIZER, Credentials


@pytest.fixture
async def client(consumer: LabCluster) -> AsyncIterator[Client]:
    credentials = await config.load(kubeconfig=str(consumer.admin_kubeconfig))
    async with Client.connect(credentials, name="consumer") as made:
        yield made


async def secret(client: Client, namespace: str, name: str) -> Secret | None:
    try:
        return await client.get(SECRETS, name=name, namespace=namespace, decode=Secret)
    except ApiError as error:
        if error.not_found:
            return None
        raise


async def make(client: Client, namespace: str, name: str, *finalizers: str) -> Secret:
    metadata = {"name": name, "finalizers": list(finalizers)}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"kubeconfig": "x"}}
    return await client.create(SECRETS, body, namespace=namespace, decode=Secret)


async def test_a_kubeconfig_that_is_deleted_stays_until_it_is_released(client: Client, namespace: str) -> None:
    credentials = Credentials(client, namespace)
    for name in ("north", "south"):
        await credentials.hold(await make(client, namespace, name))
        await client.delete(SECRETS, name=name, namespace=namespace)
    await credentials.release({"north"})
    assert await secret(client, namespace, "south") is None
    held = await secret(client, namespace, "north")
    assert held is not None
    assert held.data["kubeconfig"]
    await credentials.hold(held)  # it is going: nothing can be added to it
    await credentials.release(set())
    assert await secret(client, namespace, "north") is None


async def test_what_others_hold_and_what_we_do_not_is_left_alone(client: Client, namespace: str) -> None:
    credentials = Credentials(client, namespace)
    other = "example.org/keep"
    await credentials.hold(await make(client, namespace, "north", other))
    await make(client, namespace, "stranger", other)
    found = await secret(client, namespace, "north")
    assert found is not None
    assert set(found.metadata.finalizers) == {other, FINALIZER}
    before = found.metadata.resource_version
    await credentials.hold(found)
    again = await secret(client, namespace, "north")
    assert again is not None
    assert again.metadata.resource_version == before, "held already: nothing is written"
    await credentials.release(set())
    for name in ("north", "stranger"):
        left = await secret(client, namespace, name)
        assert left is not None
        assert left.metadata.finalizers == (other,)
        body = {"metadata": {"finalizers": None}}
        await client.patch(SECRETS, body, name=name, namespace=namespace, decode=Secret)
