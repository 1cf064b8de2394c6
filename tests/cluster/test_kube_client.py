"""The library's client against a real API server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.lab import pki
from deploy.lab.cluster import LabCluster
from deploy.lab.proxy import rules
from deploy.lab.proxy.server import ApiProxy
from kube import config
from kube.client import Client, PatchType
from kube.election import LeaderElector
from kube.errors import ApiError, ConfigError, TransportError
from kube.events import EventRecorder
from kube.objects import ConfigMap, Event, Object, ObjectReference
from kube.resources import CONFIG_MAPS, EVENTS, LEASES, NODES, PODS, SECRETS, SERVICE_ACCOUNTS


async def connected(kubeconfig: Path) -> AsyncIterator[Client]:
    async with Client.connect(await config.load(kubeconfig=str(kubeconfig)), name="test") as made:
        yield made


@pytest.fixture
async def client(consumer: LabCluster) -> AsyncIterator[Client]:
    async for made in connected(consumer.admin_kubeconfig):
        yield made


@pytest.fixture
async def proxy(consumer: LabCluster) -> AsyncIterator[ApiProxy]:
    async with ApiProxy.running(consumer, user="lab:kube", groups=("system:masters",)) as made:
        yield made


@pytest.fixture
async def proxied(proxy: ApiProxy) -> AsyncIterator[Client]:
    async for made in connected(proxy.kubeconfig):
        yield made


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


async def test_the_life_of_an_object(client: Client, namespace: str) -> None:
    made = await client.create(CONFIG_MAPS, config_map("a", x="1"), namespace=namespace, decode=ConfigMap)
    with pytest.raises(ApiError) as twice:
        await client.create(CONFIG_MAPS, config_map("a"), namespace=namespace)
    assert twice.value.already_exists
    patched = await client.patch(
        CONFIG_MAPS,
        {"metadata": {"uid": made.metadata.uid}, "data": {"x": None, "y": "2"}},
        name="a",
        namespace=namespace,
        decode=ConfigMap,
    )
    assert patched.data == {"y": "2"}
    replacement = config_map("a", z="3")
    replacement["metadata"]["resourceVersion"] = made.metadata.resource_version
    with pytest.raises(ApiError) as stale:
        await client.replace(CONFIG_MAPS, replacement, name="a", namespace=namespace)
    assert stale.value.conflict
    with pytest.raises(ApiError) as other:
        await client.delete(CONFIG_MAPS, name="a", namespace=namespace, uid="another")
    assert other.value.conflict
    with pytest.raises(ApiError) as older:
        await client.delete(CONFIG_MAPS, name="a", namespace=namespace, resource_version=made.metadata.resource_version)
    assert older.value.conflict
    await client.delete(CONFIG_MAPS, name="a", namespace=namespace, uid=made.metadata.uid)
    with pytest.raises(ApiError) as gone:
        await client.get(CONFIG_MAPS, name="a", namespace=namespace)
    assert gone.value.not_found


async def test_apply_creates_updates_and_takes_fields_back(client: Client, namespace: str) -> None:
    first = await client.apply(
        CONFIG_MAPS, config_map("a", x="1", y="1"), name="a", namespace=namespace, field_manager="m", decode=ConfigMap
    )
    second = await client.apply(
        CONFIG_MAPS, config_map("a", x="2"), name="a", namespace=namespace, field_manager="m", decode=ConfigMap
    )
    assert second.data == {"x": "2"}
    assert second.metadata.uid == first.metadata.uid
    with pytest.raises(ApiError) as conflict:
        await client.apply(
            CONFIG_MAPS, config_map("a", x="3"), name="a", namespace=namespace, field_manager="other", force=False
        )
    assert conflict.value.conflict
    body = config_map("absent")
    body["metadata"]["uid"] = "11111111-1111-1111-1111-111111111111"
    with pytest.raises(ApiError) as absent:
        await client.apply(CONFIG_MAPS, body, name="absent", namespace=namespace, field_manager="m")
    # With a UID, apply does not create: what is gone does not come back.
    assert absent.value.status in {404, 409}


async def test_patch_types_and_dry_run(client: Client, namespace: str) -> None:
    await client.create(CONFIG_MAPS, config_map("a", x="1"), namespace=namespace)
    operations = [{"op": "test", "path": "/data/x", "value": "1"}, {"op": "add", "path": "/data/y", "value": "2"}]
    patched = await client.patch(
        CONFIG_MAPS, operations, name="a", namespace=namespace, kind=PatchType.JSON, decode=ConfigMap
    )
    assert patched.data == {"x": "1", "y": "2"}
    await client.patch(CONFIG_MAPS, {"data": {"z": "3"}}, name="a", namespace=namespace, kind=PatchType.STRATEGIC)
    await client.create(CONFIG_MAPS, config_map("b"), namespace=namespace, dry_run=True)
    listing = await client.list(CONFIG_MAPS, namespace=namespace, decode=ConfigMap, field_selector="metadata.name=b")
    assert listing.items == []


async def test_subresources(client: Client, namespace: str) -> None:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    made = await client.create(SERVICE_ACCOUNTS, body, namespace=namespace, name="default", subresource="token")
    assert made["status"]["token"]
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": "none"}}
    await client.create(PODS, pod, namespace=namespace)
    status = {"status": {"phase": "Running", "podIP": "198.18.255.1"}}
    found = await client.patch(PODS, status, namespace=namespace, name="p", subresource="status", decode=Object)
    assert b'"Running"' in bytes(found.status)
    await client.delete(PODS, namespace=namespace, name="p", grace_period_seconds=0)


async def test_lists_in_pages_are_one_revision(client: Client, namespace: str) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(25):
            group.create_task(client.create(CONFIG_MAPS, config_map(f"n{number:02}"), namespace=namespace))
    listing = await client.list(CONFIG_MAPS, namespace=namespace, decode=ConfigMap, page=4)
    names = [item.metadata.name for item in listing.items]
    assert [name for name in names if name.startswith("n")] == [f"n{number:02}" for number in range(25)]
    assert int(listing.resource_version) >= max(int(item.metadata.resource_version) for item in listing.items)


async def test_an_upgrade_that_is_refused_says_why(client: Client, namespace: str) -> None:
    path = PODS.path(namespace=namespace, name="absent", subresource="exec")
    upgraded = await client.upgrade(
        "POST", path, params=[("command", "ls"), ("stdout", "true")], headers=[("Upgrade", "SPDY/3.1")]
    )
    assert upgraded.status == 404
    assert b"NotFound" in await upgraded.read_body(10_000)
    await upgraded.aclose()
    async with client.stream("GET", PODS.path(namespace=namespace, name="absent", subresource="log"), params=[]) as log:
        assert log.status == 404


async def test_a20_what_a_user_may_not_is_forbidden(consumer: LabCluster, tmp_path: Path) -> None:
    async for client in connected(consumer.client_kubeconfig("lab:nobody", path=tmp_path / "kubeconfig")):
        with pytest.raises(ApiError) as refused:
            await client.list(SECRETS)
        assert refused.value.forbidden


async def test_a39_another_ca_or_no_verification_is_refused(consumer: LabCluster, tmp_path: Path) -> None:
    document = yaml.safe_load(consumer.admin_kubeconfig.read_text())
    cluster = document["clusters"][0]["cluster"]
    cluster.pop("certificate-authority-data", None)
    other = tmp_path / "other-ca.crt"
    other.write_bytes(pki.Authority(tmp_path / "other", name="other").files.certificate.read_bytes())
    cluster["certificate-authority"] = str(other)
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    async for client in connected(path):
        with pytest.raises(TransportError, match="certificate not accepted") as refused:
            await client.raw("GET", "/version")
        assert not refused.value.sent
        with pytest.raises(TransportError, match="certificate not accepted"):
            await client.upgrade("GET", "/version", params=[], headers=[("Upgrade", "x")])
    cluster["insecure-skip-tls-verify"] = True
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigError, match="insecure-skip-tls-verify"):
        await config.load(kubeconfig=str(path))


async def test_a39_the_server_speaks_tls_1_2_at_least(client: Client, consumer: LabCluster) -> None:
    access = await (await config.load(kubeconfig=str(consumer.admin_kubeconfig))).access()
    assert access.ssl is not None
    assert access.ssl.minimum_version is ssl.TLSVersion.TLSv1_2
    assert access.ssl.verify_mode is ssl.CERT_REQUIRED


async def test_f4_a_write_whose_answer_is_lost_was_sent_and_is_not_repeated(
    proxied: Client, proxy: ApiProxy, client: Client, namespace: str
) -> None:
    rule = proxy.add(rules.Swallow(), verb="create", path="/configmaps$")
    with pytest.raises(TransportError) as lost:
        await proxied.create(CONFIG_MAPS, config_map("a"), namespace=namespace)
    assert lost.value.sent
    assert rule.hits == 1
    await client.get(CONFIG_MAPS, name="a", namespace=namespace)


async def test_f15_throttled_then_served(proxied: Client, proxy: ApiProxy, namespace: str) -> None:
    rule = proxy.add(rules.too_many_requests(1), verb="create", times=1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await proxied.create(CONFIG_MAPS, config_map("a"), namespace=namespace)
    assert rule.hits == 1
    assert loop.time() - began >= 1


async def test_f20_i10_two_candidates_one_leader(client: Client, namespace: str) -> None:
    electors = [
        LeaderElector(client, namespace=namespace, name="lock", identity=name, duration=2, retry=0.2)
        for name in ("one", "two")
    ]
    tasks = {elector.identity: asyncio.create_task(elector.run()) for elector in electors}
    try:
        async with asyncio.timeout(20):
            await asyncio.wait(
                [waits := asyncio.ensure_future(e.leading.wait()) for e in electors],
                return_when=asyncio.FIRST_COMPLETED,
            )
        leader, other = sorted(electors, key=lambda elector: not elector.leading.is_set())
        leader.check()
        assert not other.leading.is_set()
        tasks[leader.identity].cancel()
        await asyncio.wait_for(other.leading.wait(), 5)
        other.check()
        lease = await client.get(LEASES, name="lock", namespace=namespace)
        assert lease["spec"]["holderIdentity"] == other.identity
    finally:
        del waits
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


async def test_events_are_written_and_counted(client: Client, namespace: str) -> None:
    recorder = EventRecorder(client, component="test", host="here")
    task = asyncio.create_task(recorder.run())
    reference = ObjectReference(kind="ConfigMap", namespace=namespace, name="a", uid="u", api_version="v1")
    for _ in range(3):
        recorder.event(reference, type="Warning", reason="Tested", message="a\x1b[31mb")
    try:
        async with asyncio.timeout(10):
            while True:
                listing = await client.list(EVENTS, namespace=namespace, decode=Event)
                if listing.items and listing.items[0].count == 3:
                    break
                await asyncio.sleep(0.05)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert len(listing.items) == 1
    assert listing.items[0].message == "a\\x1b[31mb"


async def test_nodes_have_no_namespace(client: Client) -> None:
    nodes = await client.list(NODES, decode=Object)
    assert nodes.resource_version
