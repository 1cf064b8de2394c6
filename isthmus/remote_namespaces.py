"""The namespaces at a provider that stand for namespaces of this consumer, as the manager finds them there."""

from __future__ import annotations

from dataclasses import dataclass

from api.offloading.definitions import NAMESPACE_MAPS, SHADOW_PODS
from api.offloading.namespaces import NamespaceMap
from api.offloading.virtual_node import VirtualNode
from kube.client import Client
from kube.errors import ApiError
from kube.objects import Metadata, Object
from kube.resources import NAMESPACES, PODS, Resource
from reflection import ownership
from reflection.forge import names
from reflection.managed import naming
from reflection.managed.names import tenant_namespace


@dataclass(frozen=True, slots=True)
class Target:
    """What is deleted so that a namespace goes."""

    resource: Resource
    metadata: Metadata


def pod_kinds(virtual: VirtualNode) -> tuple[Resource, ...]:
    """As what a virtual node's remote pods may be there."""
    return (SHADOW_PODS, PODS) if virtual.spec.mode == "Managed" else (PODS,)


async def namespaces(provider: Client, virtual: VirtualNode, *, consumer_id: str) -> dict[str, Target]:
    """Those that we made, or asked for, by name. Raises KubeError."""
    if virtual.spec.mode == "Managed":
        return await _asked(provider, consumer_id)
    return await _made(provider, consumer_id)


async def _asked(provider: Client, consumer_id: str) -> dict[str, Target]:
    """The namespaces that this consumer asked a managed provider for, with the NamespaceMaps by which it did."""
    try:
        listing = await provider.list(NAMESPACE_MAPS, namespace=tenant_namespace(consumer_id), decode=NamespaceMap)
    except ApiError as error:
        if not (error.forbidden or error.not_found):
            raise
        return {}  # no tenant any more: its namespaces went with it
    return {
        naming.named(asked, consumer_id=consumer_id): Target(NAMESPACE_MAPS, asked.metadata)
        for asked in listing.items
        if asked.metadata.labels.get(names.MANAGED_BY_LABEL) == names.MANAGED_BY
    }


async def _made(provider: Client, consumer_id: str) -> dict[str, Target]:
    """The namespaces that this consumer made. A credential for given namespaces makes none.

    One that carries only our label was given to us by the provider, and stays.
    """
    selector = ownership.consumer_selector(consumer_id)
    try:
        listing = await provider.list(NAMESPACES, label_selector=selector, decode=Object)
    except ApiError as error:
        if not error.forbidden:
            raise
        return {}
    found = (namespace.metadata for namespace in listing.items)
    return {
        meta.name: Target(NAMESPACES, meta)
        for meta in found
        if ownership.is_ours(meta, consumer_id) and names.ORIGIN_NAMESPACE in meta.annotations
    }
