"""Module `peers`: who this cluster is at its providers, and the kubeconfigs that virtual kubelets use there."""

from __future__ import annotations

from identity.consumer.consumer import IdentityConsumer
from identity.consumer.settings import ConsumerSettings
from isthmus.modules.parts import Parts
from isthmus.modules.tenants import cluster_id


async def add(parts: Parts) -> None:
    """Identities, and their keys and kubeconfigs in the manager's namespace."""
    options = parts.options
    settings = ConsumerSettings(
        consumer_id=options.consumer_id, cluster_id=await cluster_id(parts.client), namespace=options.namespace
    )
    consumer = IdentityConsumer(
        parts.client,
        settings,
        recorder=parts.recorder,
        check_leading=parts.elector.check,
        registry=parts.registry,
    )
    for name, reflector in consumer.caches():
        parts.cache(name, reflector)
    for name, work in consumer.workers():
        parts.lead(name, work)
