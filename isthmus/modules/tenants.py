"""Module `tenants`: who may borrow of this cluster. Added before `provider`, whose pods and namespaces it rules."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from identity.provider.admission import Load, Tenancy
from identity.provider.provider import TenantProvider, utc_now
from identity.provider.settings import ProviderSettings
from isthmus.modules.parts import Parts
from isthmus.options import OptionsError
from isthmus.stock import NodeStock
from kube.client import Client
from kube.objects import WithMetadata
from kube.quantities import Quantity
from kube.resources import NAMESPACES
from reflection.managed.refusals import Refusal
from reflection.managed.settings import Limits
from reflection.managed.tenancy import Asked
from reflection.managed.usage import Usage

RETRY_SECONDS = 10.0
"""How soon a pod is tried again that a quota did not let pass."""


class TenantRules:
    """What module `provider` asks: `reflection.managed.tenancy.Tenants` by Tenants."""

    def __init__(self, tenancy: Tenancy) -> None:
        self._tenancy = tenancy

    def limits(self, consumer_id: str) -> Limits:
        """What the consumer's pods may ask for."""
        tenant = self._tenancy.tenant(consumer_id)
        if tenant is None:
            return Limits(pod_security="restricted")
        spec = tenant.spec
        return Limits(
            pod_security=spec.pod_security,
            namespaces=spec.namespaces,
            runtime_classes=frozenset(spec.runtime_classes),
            priority_classes=frozenset(spec.priority_classes),
            node_selector=spec.node_selector,
        )

    def subject(self, consumer_id: str) -> Mapping[str, str] | None:
        """Who the consumer is."""
        return self._tenancy.subject(consumer_id)

    async def admit(self, asked: Asked) -> Refusal | None:
        """Why the pod may not be made now."""
        denial = self._tenancy.deny(
            asked.consumer_id, wants=_load(asked.wants), held=_load(asked.held), grows=asked.grows
        )
        return Refusal(denial.reason, denial.message, retry=RETRY_SECONDS) if denial is not None else None


def _load(usage: Usage) -> Load:
    return Load(pods=usage.pods, requests=usage.requests, limits=usage.limits)


async def add(parts: Parts) -> None:
    """Tenants and their credentials. Raises `OptionsError`."""
    stock = NodeStock(parts.client, registry=parts.registry)
    provider = TenantProvider(
        parts.client,
        await _settings(parts),
        inventory=stock,
        recorder=parts.recorder,
        check_leading=parts.elector.check,
        registry=parts.registry,
    )
    for name, reflector in (*provider.caches(), *stock.caches()):
        parts.cache(name, reflector)
    for name, work in provider.workers():
        parts.lead(name, work)
    parts.tenants = TenantRules(Tenancy(provider.tenants.store, provider.slices.store, now=utc_now))


async def _settings(parts: Parts) -> ProviderSettings:
    options, access = parts.options, await parts.credentials.access()
    authority = parts.credentials.authority
    if options.advertise_ca_file:
        try:
            authority = await asyncio.to_thread(Path(options.advertise_ca_file).read_bytes)
        except OSError as error:
            raise OptionsError(f"--advertise-ca-file {options.advertise_ca_file}: {error}") from error
    if authority is None:
        raise OptionsError("--advertise-ca-file: needed, for consumers pin the authority of this cluster")
    server = advertised(options.advertise_server, seen=access.server, inside=os.environ.get("KUBERNETES_SERVICE_HOST"))
    return ProviderSettings(
        server=server,
        ca=authority.decode(),
        cluster_id=await cluster_id(parts.client),
        namespace=options.namespace,
        slice_overcommit=Quantity(round(options.slice_overcommit * 10**9)),
    )


def advertised(asked: str, *, seen: str, inside: str | None) -> str:
    """The URL for consumers. Raises `OptionsError` if there is none: no other cluster reaches a Service's address.

    `seen` is the URL that we use, `inside` the API server's address for pods.
    """
    server = asked or seen
    if not server.startswith("https://"):
        raise OptionsError(f"--advertise-server {server!r}: expected an https:// URL")
    if not asked and inside and urlsplit(server).hostname == inside:
        text = f"{server}, which this pod uses, is an address inside this cluster"
        raise OptionsError(f"--advertise-server: needed, the URL at which consumers reach this API server; {text}")
    return server


async def cluster_id(client: Client) -> str:
    """What tells this cluster from all others: the UID of its namespace kube-system."""
    return (await client.get(NAMESPACES, name="kube-system", decode=WithMetadata)).metadata.uid
