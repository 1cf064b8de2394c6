"""The pod webhook and a real API server: what it asks about, what pods become, and what happens when nobody answers."""

import asyncio
import io
import json
import ssl
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import aiohttp
from cryptography import x509
from prometheus_client import CollectorRegistry

from kube.client import Client
from kube.resources import NAMESPACES, PODS, SECRETS
from reflection.scheduling import names
from reflection.scheduling.certificates import Lifetimes
from reflection.scheduling.leadership import Alone
from reflection.scheduling.registration import PATH, WEBHOOK_CONFIGURATIONS
from reflection.scheduling.webhook import PodWebhook, WebhookSettings
from tests.cluster.scheduling.conftest import Space, pod
from tests.cluster.scheduling.waiting import running, until
from tests.cluster.scheduling.webhooks import Hook, exists, found, hook, no_offloadings

Json = dict[str, Any]


async def _enable(client: Client, space: Space, **spec: Any) -> None:
    """Offload the namespace, with the label that the controller would put."""
    await asyncio.to_thread(space.offload, **spec)
    label = {"metadata": {"labels": {names.SCHEDULING_LABEL: names.SCHEDULING_ENABLED}}}
    await client.patch(NAMESPACES, label, name=space.name)


async def _try(client: Client, space: Space, manifest: Json) -> Json:
    """What would become of a pod."""
    return await client.create(PODS, manifest, namespace=space.name, dry_run=True)


def _marked(created: Json) -> str:
    return str((created["metadata"].get("annotations") or {}).get(names.STRATEGY_MARK, ""))


async def _until_asked(client: Client, space: Space, *, wanted: str) -> Json:
    """The API server learns of a configuration and a label a moment later."""

    async def probe() -> Json | None:
        created = await _try(client, space, pod("probe"))
        return created if _marked(created) == wanted else None

    found = await until(probe, what=f"pods marked {wanted!r}")
    assert found is not None
    return found


async def test_pods_of_an_offloaded_namespace_are_prepared_and_no_others(
    client: Client, space: Space, settings: WebhookSettings
) -> None:
    async with hook(client, settings) as running_hook:
        assert not _marked(await _try(client, space, pod("before")))
        await _enable(client, space, podStrategy="LocalAndRemote", virtualNodeSelector={"matchLabels": {"pool": "gpu"}})
        created = await _until_asked(client, space, wanted="LocalAndRemote")
        assert names.TOLERATION in created["spec"]["tolerations"]
        required = created["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert required["nodeSelectorTerms"] == [
            {"matchExpressions": [{"key": names.NODE_MARK, "operator": "DoesNotExist"}]},
            {
                "matchExpressions": [
                    {"key": names.NODE_MARK, "operator": "Exists"},
                    {"key": "pool", "operator": "In", "values": ["gpu"]},
                ]
            },
        ]

        asked = running_hook.asked()
        owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "u", "controller": True}
        for left_alone in (
            pod("bound", nodeName="some-node"),
            pod("daemon", metadata={"ownerReferences": [owner]}),
            pod("label", metadata={"labels": {names.OPT_OUT: "true"}}),
            pod("annotation", metadata={"annotations": {names.OPT_OUT: "true"}}),
        ):
            assert not _marked(await _try(client, space, left_alone)), left_alone["metadata"]["name"]
        assert running_hook.asked() == asked, "the API server need not have asked"

        kept = await _try(client, space, pod("host", hostNetwork=True))
        assert _marked(kept) == names.KEPT_LOCAL
        assert names.TOLERATION not in kept["spec"]["tolerations"]

        await asyncio.to_thread(space.offload, podStrategy="Remote")
        await _until_asked(client, space, wanted="Remote")
        await asyncio.to_thread(space.offload, podStrategy="Local")
        await _until_asked(client, space, wanted="")
        await running_hook.webhook.keeper.unregister()


async def test_without_the_webhook_pods_are_created_as_they_are(
    client: Client, space: Space, settings: WebhookSettings
) -> None:
    async with hook(client, settings):
        await _enable(client, space, podStrategy="Remote")
        await _until_asked(client, space, wanted="Remote")
    began = time.monotonic()
    left = await _try(client, space, pod("alone"))
    assert not _marked(left)
    assert "affinity" not in left["spec"]
    assert time.monotonic() - began < 20.0
    async with hook(client, settings):  # the certificate is still there, and the registration right
        assert _marked(await _until_asked(client, space, wanted="Remote"))


async def test_no_pod_is_missed_while_authority_and_certificate_are_replaced(
    client: Client, space: Space, settings: WebhookSettings
) -> None:
    """Lives of seconds: several serving certificates and two authorities pass under a stream of pods."""
    second = timedelta(seconds=1)
    lifetimes = Lifetimes(authority=18 * second, serving=8 * second, leeway=1 * second)
    settings = replace(settings, keeper=replace(settings.keeper, lifetimes=lifetimes, settle=1.0))
    async with hook(client, settings) as running_hook:
        await _enable(client, space, podStrategy="Remote")
        await _until_asked(client, space, wanted="Remote")
        serving: set[bytes] = set()
        known: dict[x509.Name, float] = {}
        deadline = time.monotonic() + 45.0
        tried = 0
        issuer: x509.Name | None = None
        while len(known) < 2 or issuer == next(iter(known)):
            assert time.monotonic() < deadline, (len(known), len(serving))
            created = await _try(client, space, pod(f"p-{tried}"))
            assert _marked(created) == "Remote", f"after {tried} pods"
            tried += 1
            shown = await _shown(running_hook)
            first = not known
            for authority in await running_hook.authorities():
                known.setdefault(authority.subject, time.monotonic())
            issuer = x509.load_der_x509_certificate(shown).issuer
            if shown not in serving and not first:
                old = issuer == next(iter(known))
                assert old or time.monotonic() - known[issuer] > 0.5, "used before API servers surely knew it"
            serving.add(shown)
    assert tried > 20
    assert len(serving) > 2


async def _shown(running_hook: Hook) -> bytes:
    """The certificate that a caller gets who trusts what the registration says."""
    context = await running_hook.trusted()
    endpoint = running_hook.settings.keeper.endpoint
    _reader, writer = await asyncio.open_connection(endpoint.address, endpoint.port, ssl=context)
    shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return shown


async def test_what_others_spoil_is_put_right(client: Client, space: Space, settings: WebhookSettings) -> None:
    keeper = settings.keeper
    async with hook(client, settings) as running_hook:
        await _enable(client, space, podStrategy="Remote")
        await _until_asked(client, space, wanted="Remote")
        right = await running_hook.configuration()

        spoilt = json.loads(json.dumps(right))
        spoilt["webhooks"][0]["clientConfig"]["caBundle"] = ""
        spoilt["webhooks"][0]["failurePolicy"] = "Fail"
        await client.replace(WEBHOOK_CONFIGURATIONS, spoilt, name=keeper.configuration)

        async def healed() -> bool:
            if not await exists(running_hook):
                return False
            return bool((await running_hook.configuration())["webhooks"] == right["webhooks"])

        await until(healed, what="the registration to be right again")
        await client.delete(WEBHOOK_CONFIGURATIONS, name=keeper.configuration)
        await until(healed, what="the registration to be there again")

        await client.delete(SECRETS, namespace="default", name=keeper.secret)

        async def kept() -> bool:
            return await found(client.get(SECRETS, namespace="default", name=keeper.secret))

        await until(kept, what="the Secret to be there again")
        assert await healed(), "the same authority as before: nobody had to learn another"
        await client.patch(SECRETS, {"data": {"tls.key": ""}}, namespace="default", name=keeper.secret)
        await _until_asked(client, space, wanted="Remote")


async def test_a_secret_of_others_is_not_taken(client: Client, settings: WebhookSettings) -> None:
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": settings.keeper.secret}, "data": {"a": "Yg=="}}
    await client.create(SECRETS, body, namespace="default")
    registry = CollectorRegistry()
    webhook = PodWebhook(client, settings, offloadings=no_offloadings(client), leadership=Alone(), registry=registry)

    async def failed() -> bool:
        labels = {"controller": "webhook", "result": "terminal"}
        return bool(registry.get_sample_value("isthmus_reconcile_total", labels))

    async with running(*webhook.cache_tasks(), *webhook.worker_tasks()):
        await until(failed, what="the refusal")
    found = await client.get(SECRETS, namespace="default", name=settings.keeper.secret)
    assert found["data"] == {"a": "Yg=="}
    await client.delete(SECRETS, namespace="default", name=settings.keeper.secret)


async def test_a_foreign_client_learns_nothing_and_stops_nobody(
    client: Client, space: Space, settings: WebhookSettings
) -> None:
    """Oversized and malformed reviews, and too many connections, while the API server goes on being answered."""
    settings = replace(settings, limits=replace(settings.limits, connections_of_one=8))
    async with hook(client, settings) as running_hook:
        await _enable(client, space, podStrategy="Remote")
        await _until_asked(client, space, wanted="Remote")
        url = f"https://{settings.host}:{settings.port}{PATH}"
        connector = aiohttp.TCPConnector(ssl=await running_hook.trusted(), limit=4)
        async with aiohttp.ClientSession(connector=connector) as session:
            for data, status in ((b"{}", 400), (b"[" * 50_000, 400), (b" " * (5 * 1024 * 1024), 413)):
                try:
                    async with session.post(
                        url, data=io.BytesIO(data), headers={"Content-Type": "application/json"}
                    ) as response:
                        assert response.status == status
                        assert "Remote" not in await response.text()
                except aiohttp.ClientConnectionError:
                    assert status == 413, "only a body that is not read may be cut off"
        context = await running_hook.trusted()
        held = [await _connect(settings.host, settings.port, context) for _ in range(12)]
        assert _marked(await _try(client, space, pod("after"))) == "Remote"
        for writer in held:
            writer.transport.abort()


async def _connect(host: str, port: int, context: ssl.SSLContext) -> asyncio.StreamWriter:
    _reader, writer = await asyncio.open_connection(host, port, ssl=context)
    return writer
