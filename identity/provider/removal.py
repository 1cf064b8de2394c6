"""Taking from a tenant what it has: first its rights, then its pods, then its namespaces.

Rights go first and at once: certificates cannot be called back, but what they are good for can. Streams into pods end
with the pods; a watch that is open sees nothing but the end of what it watched.
"""

from __future__ import annotations

from typing import Final

import structlog

from api.authentication.definitions import CREDENTIAL_REQUESTS
from api.authentication.tenant import Tenant
from api.offloading.definitions import NAMESPACE_MAPS, SHADOW_PODS
from identity import names
from identity.provider.rights import flow_name
from identity.provider.writing import Writer
from kube.client import Client
from kube.objects import Object, WithMetadata
from kube.resources import NAMESPACES, ROLE_BINDINGS, SERVICE_ACCOUNTS, Resource

log = structlog.get_logger(__name__)

_FLOW_SCHEMAS: Final = Resource("flowcontrol.apiserver.k8s.io", "v1", "flowschemas", "FlowSchema", namespaced=False)
_OURS: Final = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY}"
_SHOWN: Final = 5


class Removal:
    """What of a Tenant goes, step by step; each call does what can be done now."""

    def __init__(self, client: Client, writer: Writer) -> None:
        self._client = client
        self._writer = writer

    async def drain(self, tenant: Tenant) -> str:
        """Take rights, credentials and pods. What is still there, empty if nothing."""
        mapped = await self._mapped(tenant)
        await self._cut(tenant, mapped)
        return await self._pods(mapped)

    async def remove(self, tenant: Tenant) -> str:
        """Take everything. What is still there, empty if nothing."""
        mapped = await self._mapped(tenant)
        await self._cut(tenant, mapped)
        await self._writer.delete(_FLOW_SCHEMAS, flow_name(tenant.consumer_id))
        if left := await self._pods(mapped):
            return left
        if left := await self._namespaces(tenant, mapped):
            return left
        return await self._own_namespace(tenant)

    async def _mapped(self, tenant: Tenant) -> list[str]:
        """The namespaces with the tenant's pods."""
        selector = f"{names.CONSUMER_LABEL}={tenant.consumer_id},{_OURS}"
        listing = await self._client.list(NAMESPACES, label_selector=selector, decode=WithMetadata)
        return sorted(item.metadata.name for item in listing.items)

    async def _cut(self, tenant: Tenant, mapped: list[str]) -> None:
        own = await self._is_own(tenant)
        spaces = [names.tenant_namespace(tenant.consumer_id), *mapped] if own else mapped
        cut = 0
        for namespace in spaces:
            cut += await self._writer.delete_labelled(ROLE_BINDINGS, namespace, _OURS)
        if own:
            selector = f"{names.TENANT_LABEL}={tenant.consumer_id}"
            space = names.tenant_namespace(tenant.consumer_id)
            await self._writer.delete_labelled(SERVICE_ACCOUNTS, space, selector)
            await self._writer.delete_labelled(CREDENTIAL_REQUESTS, space, "")
        if cut:
            log.info("rights taken", tenant=tenant.consumer_id, bindings=cut)

    async def _is_own(self, tenant: Tenant) -> bool:
        found = await self._writer.read(NAMESPACES, names.tenant_namespace(tenant.consumer_id))
        annotations = (found or {}).get("metadata", {}).get("annotations", {})
        return bool(annotations.get(names.UID_ANNOTATION) == tenant.metadata.uid)

    async def _pods(self, mapped: list[str]) -> str:
        """End the tenant's pods, by way of their ShadowPods: these hold a pod until its end is recorded."""
        left = 0
        for namespace in mapped:
            left += await self._writer.delete_labelled(SHADOW_PODS, namespace, "")
        return f"{left} pods are being ended in {_some(mapped)}" if left else ""

    async def _namespaces(self, tenant: Tenant, mapped: list[str]) -> str:
        if not mapped:
            return ""
        if tenant.metadata.annotations.get(names.FORCE_ANNOTATION) == "true":
            for namespace in mapped:
                await self._writer.delete(NAMESPACES, namespace)
            return f"namespaces are being removed: {_some(mapped)}"
        space = names.tenant_namespace(tenant.consumer_id)
        await self._writer.delete_labelled(NAMESPACE_MAPS, space, "")
        said = [text for text in await self._in_the_way(space, mapped) if text]
        advice = f"; to remove them with all data set the annotation {names.FORCE_ANNOTATION}=true" if said else ""
        return f"namespaces are being removed: {'; '.join(said[:_SHOWN]) or _some(mapped)}{advice}"

    async def _in_the_way(self, space: str, mapped: list[str]) -> list[str]:
        """What NamespaceMaps say that keeps their namespaces, and which have none, as those of direct mode."""
        listing = await self._client.list(NAMESPACE_MAPS, namespace=space, missing_ok=True)
        if not listing.items:
            return [f"{_some(mapped)}: not made by a NamespaceMap, and so left to its administrator"]
        conditions = [one for item in listing.items for one in item.get("status", {}).get("conditions", ())]
        return [str(one.get("message", "")) for one in conditions if one.get("reason") == "InUse"]

    async def _own_namespace(self, tenant: Tenant) -> str:
        space = names.tenant_namespace(tenant.consumer_id)
        if not await self._is_own(tenant):
            return ""
        found = await self._client.get(NAMESPACES, name=space, decode=Object)
        if not found.metadata.deletion_timestamp:
            await self._writer.delete(NAMESPACES, space, uid=found.metadata.uid)
        return f"namespace {space} is being removed"


def _some(found: list[str]) -> str:
    return ", ".join(found[:_SHOWN]) + (" ..." if len(found) > _SHOWN else "")
