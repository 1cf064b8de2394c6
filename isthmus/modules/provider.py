"""Module `provider`: managed mode. Consumers ask by ShadowPods and NamespaceMaps, and this manager makes the pods."""

from __future__ import annotations

from isthmus.modules.parts import Parts
from reflection.managed.provider import ManagedProvider
from reflection.managed.settings import ManagedSettings


async def add(parts: Parts) -> None:
    """What turns ShadowPods into pods and NamespaceMaps into namespaces."""
    provider = ManagedProvider(
        parts.client,
        ManagedSettings(),
        tenants=parts.tenants,
        check_leading=parts.elector.check,
        registry=parts.registry,
    )
    for name, reflector in provider.caches():
        parts.cache(name, reflector)
    for name, work in provider.workers():
        parts.lead(name, work)
