"""Clearing a provider of what a VirtualNode leaves there, when the VirtualNode goes.

Remote pods end with their origins, and copies with the pods that named them; both are the virtual kubelet's work. What
is left are the namespaces that we made, which other VirtualNodes of the same provider may still use.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from api.offloading.virtual_node import VirtualNode
from isthmus import remote_namespaces
from isthmus.providers import Providers
from isthmus.remote_namespaces import Target, pod_kinds
from kube.client import Client
from kube.errors import ApiError
from kube.objects import WithMetadata
from kube.resources import Resource
from reflection import ownership
from reflection.storage.model import CLAIMS


class Retirement:
    """The manager's `Retire`: asks the provider with the VirtualNode's own kubeconfig."""

    def __init__(
        self,
        providers: Providers,
        *,
        consumer_id: str,
        others: Callable[[VirtualNode], Collection[VirtualNode]],
    ) -> None:
        self._providers = providers
        self._consumer_id = consumer_id
        self._others = others

    async def __call__(self, virtual: VirtualNode) -> str:
        """Empty once nothing of the VirtualNode is at the provider, else what is. Raises KubeError."""
        async with self._providers.client_of(virtual.spec.kubeconfig_secret) as provider:
            if provider is None:
                return ""  # never had a kubeconfig: nothing can have been made
            namespaces = await remote_namespaces.namespaces(provider, virtual, consumer_id=self._consumer_id)
            kinds = pod_kinds(virtual)
            left = [name for name in namespaces if await self._pods(provider, name, kinds, node=virtual.node)]
            if left:
                return f"remote pods are left in {', '.join(sorted(left)[:5])}"
            if self._others(virtual):
                return ""
            if volumes := [name for name in namespaces if await self._has_claims(provider, name)]:
                return f"volumes are left in {', '.join(sorted(volumes)[:5])}: delete their claims, or keep the node"
            for target in namespaces.values():
                await self._remove(provider, target)
            return f"namespaces are being removed: {', '.join(sorted(namespaces)[:5])}" if namespaces else ""

    async def _pods(self, provider: Client, namespace: str, kinds: Iterable[Resource], *, node: str) -> bool:
        selector = ownership.node_selector(node)
        try:
            for kind in kinds:
                listing = await provider.list(kind, namespace=namespace, label_selector=selector, decode=WithMetadata)
                if listing.items:
                    return True
        except ApiError as error:
            if not error.forbidden:  # our rights go with the namespace
                raise
        return False

    async def _has_claims(self, provider: Client, namespace: str) -> bool:
        """Data outlives pods: it goes with its claim at the consumer, never because a node does."""
        try:
            listing = await provider.list(CLAIMS, namespace=namespace, decode=WithMetadata)
        except ApiError as error:
            if error.forbidden:
                return False
            raise
        return bool(listing.items)

    async def _remove(self, provider: Client, target: Target) -> None:
        meta = target.metadata
        if meta.deletion_timestamp:
            return
        try:
            await provider.delete(target.resource, name=meta.name, namespace=meta.namespace or None, uid=meta.uid)
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise
