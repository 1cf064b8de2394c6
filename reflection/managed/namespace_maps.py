"""The provider's side of a namespace: a NamespaceMap becomes a namespace with a pod security level and the consumer's
rights in it.

A namespace that was not made for this very NamespaceMap is left alone, and a condition names it. When a NamespaceMap
goes, its namespace goes with it, but not while pods or volumes are in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import structlog

from api.meta import Condition, with_condition
from api.offloading.definitions import NAMESPACE_MAPS, SHADOW_PODS
from api.offloading.namespaces import NamespaceMap, NamespaceMapStatus
from kube.client import Client
from kube.controller import Result
from kube.errors import ApiError
from kube.objects import Object, WithMetadata
from kube.resources import NAMESPACES, ROLE_BINDINGS, Resource
from kube.store import Key, Store
from reflection.forge import names, sanitise
from reflection.managed import naming
from reflection.managed.names import MAP_ANNOTATION, MAP_FINALIZER, consumer_of
from reflection.managed.naming import DeniedError
from reflection.managed.settings import ManagedSettings
from reflection.managed.tenancy import Tenants

log = structlog.get_logger(__name__)

FIELD_MANAGER: Final = "isthmus-namespace-maps"
VERIFY_SECONDS: Final = 60.0
"""How often a namespace that is ready is looked at, and one that is not ours."""
WAIT_SECONDS: Final = 1.0
"""How often one is looked at that is on its way out."""
_RBAC: Final = "rbac.authorization.k8s.io"
_CLAIMS: Final = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
_SHOWN: Final = 5


class NamespaceMaps:
    """Reconciles by key of the NamespaceMap. `check_leading` raises if this process may not write (any more)."""

    def __init__(
        self,
        client: Client,
        settings: ManagedSettings,
        tenants: Tenants,
        *,
        maps: Store[NamespaceMap],
        now: Callable[[], str],
        check_leading: Callable[[], None],
    ) -> None:
        self._client = client
        self._settings = settings
        self._tenants = tenants
        self._maps = maps
        self._now = now
        self._check_leading = check_leading

    async def reconcile(self, key: Key) -> Result | None:
        """Bring one NamespaceMap and its namespace in step. Errors are raised: the controller tries again."""
        self._check_leading()
        asked, consumer_id = self._maps.get(key), consumer_of(key[0])
        if asked is None or consumer_id is None:
            return None
        if asked.metadata.deletion_timestamp:
            return await self._remove(asked, consumer_id)
        subject = self._tenants.subject(consumer_id)
        if subject is None:
            text = f"consumer {consumer_id} is not let in: its Tenant is not there, not accepted, or drained"
            await self._say(asked, ready=False, reason="NotLetIn", message=text, namespace=asked.status.namespace)
            return Result(requeue_after=VERIFY_SECONDS)
        try:
            remote = naming.wanted(
                asked,
                consumer_id=consumer_id,
                reserved=self._settings.reserved_namespaces,
                allowed=self._tenants.limits(consumer_id).namespaces,
            )
        except DeniedError as error:
            await self._say(asked, ready=False, reason="Denied", message=str(error))
            return Result(requeue_after=VERIFY_SECONDS)
        if MAP_FINALIZER not in asked.metadata.finalizers:
            claimed = await self._set_finalizers(asked, [*asked.metadata.finalizers, MAP_FINALIZER])
            if claimed is None:
                return None
            asked = claimed
        return await self._ensure(asked, consumer_id, remote, subject)

    async def _ensure(self, asked: NamespaceMap, consumer_id: str, remote: str, subject: Mapping[str, str]) -> Result:
        namespace = await self._namespace(remote)
        if namespace is None:
            namespace = await self._create(asked, consumer_id, remote)
            if namespace is None:
                return Result(requeue_after=0.0)
        if not naming.is_made_for(namespace.metadata, asked.metadata, consumer_id=consumer_id):
            text = f"namespace {remote} exists and was not made for this consumer's namespace {asked.metadata.name}"
            await self._say(
                asked, ready=False, reason="ForeignNamespace", message=f"{text}: map to another one, or remove it"
            )
            return Result(requeue_after=VERIFY_SECONDS / 6)
        if namespace.metadata.deletion_timestamp:
            text = f"namespace {remote} is being removed; it is made again when that is over"
            await self._say(asked, ready=False, reason="NamespaceGoing", message=text)
            return Result(requeue_after=WAIT_SECONDS)
        for role in self._settings.roles:
            await self._bind(remote, role, subject)
        await self._say(
            asked, ready=True, reason="Mapped", message=f"pods of the namespace run in {remote}", namespace=remote
        )
        return Result(requeue_after=VERIFY_SECONDS)

    async def _create(self, asked: NamespaceMap, consumer_id: str, remote: str) -> Object | None:
        """Make it; None if another one was faster."""
        body = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": remote,
                "labels": {
                    names.MANAGED_BY_LABEL: names.MANAGED_BY,
                    names.CONSUMER_LABEL: names.label_value(consumer_id),
                    "pod-security.kubernetes.io/enforce": self._tenants.limits(consumer_id).pod_security,
                },
                "annotations": {
                    names.ORIGIN_NAMESPACE: asked.metadata.name,
                    MAP_ANNOTATION: naming.reference(asked.metadata),
                },
            },
        }
        self._check_leading()
        try:
            made = await self._client.create(NAMESPACES, body, decode=Object)
        except ApiError as error:
            if error.already_exists:
                return None
            raise
        log.info("made namespace", namespace=remote, consumer_id=consumer_id, origin=asked.metadata.name)
        return made

    async def _bind(self, namespace: str, role: str, subject: Mapping[str, str]) -> None:
        """Give the consumer this role there, and take back what anybody made of our binding."""
        subjects = [dict(subject)]
        reference = {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role}
        body = {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": role, "labels": {names.MANAGED_BY_LABEL: names.MANAGED_BY}},
            "roleRef": reference,
            "subjects": subjects,
        }
        found = await self._read(ROLE_BINDINGS, role, namespace=namespace)
        if found is not None:
            if found.get("roleRef") == reference and found.get("subjects") == subjects:
                return
            self._check_leading()
            await self._client.delete(ROLE_BINDINGS, name=role, namespace=namespace, uid=found["metadata"]["uid"])
        self._check_leading()
        await self._client.create(ROLE_BINDINGS, body, namespace=namespace)

    # -- the end

    async def _remove(self, asked: NamespaceMap, consumer_id: str) -> Result | None:
        """Remove the namespace if it was made for this NamespaceMap, then let that go."""
        if MAP_FINALIZER not in asked.metadata.finalizers:
            return None
        remote = naming.named(asked, consumer_id=consumer_id)
        namespace = await self._namespace(remote) if remote else None
        if namespace is None or not naming.is_made_for(namespace.metadata, asked.metadata, consumer_id=consumer_id):
            await self._set_finalizers(asked, [one for one in asked.metadata.finalizers if one != MAP_FINALIZER])
            return None
        if namespace.metadata.deletion_timestamp:
            return Result(requeue_after=WAIT_SECONDS)
        used = await self._in_use(remote)
        if used:
            await self._say(asked, ready=False, reason="InUse", message=used, namespace=remote)
            return Result(requeue_after=WAIT_SECONDS * 5)
        self._check_leading()
        await self._client.delete(NAMESPACES, name=remote, uid=namespace.metadata.uid)
        log.info("removed namespace", namespace=remote, consumer_id=consumer_id)
        return Result(requeue_after=WAIT_SECONDS)

    async def _in_use(self, namespace: str) -> str:
        """What must not be removed with the namespace; empty if nothing."""
        for resource, advice in ((SHADOW_PODS, "they go with their pods"), (_CLAIMS, "delete them first")):
            listing = await self._client.list(resource, namespace=namespace, decode=WithMetadata, missing_ok=True)
            if listing.items:
                shown = ", ".join(sorted(item.metadata.name for item in listing.items)[:_SHOWN])
                return f"{len(listing.items)} {resource.plural} are in {namespace} ({shown}): {advice}"
        return ""

    # -- requests

    async def _namespace(self, name: str) -> Object | None:
        return await self._client.find(NAMESPACES, name=name, decode=Object)

    async def _read(self, resource: Resource, name: str, *, namespace: str) -> dict[str, Any] | None:
        return await self._client.find(resource, name=name, namespace=namespace)

    async def _set_finalizers(self, asked: NamespaceMap, finalizers: list[str]) -> NamespaceMap | None:
        """Set them in the very state that we know; None if the object is gone."""
        meta = asked.metadata
        body = {"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": finalizers}}
        self._check_leading()
        try:
            return await self._client.patch(
                NAMESPACE_MAPS, body, name=meta.name, namespace=meta.namespace, decode=NamespaceMap
            )
        except ApiError as error:
            if error.not_found:
                return None
            raise

    async def _say(self, asked: NamespaceMap, *, ready: bool, reason: str, message: str, namespace: str = "") -> None:
        """Write the status if it says something new."""
        meta = asked.metadata
        said = Condition(
            type="Ready",
            status="True" if ready else "False",
            reason=reason,
            message=sanitise.message(message) or "",
            observed_generation=meta.generation,
        )
        wanted = NamespaceMapStatus(
            observed_generation=meta.generation,
            conditions=with_condition(asked.status.conditions, said, now=self._now()),
            namespace=namespace,
        )
        if wanted == asked.status:
            return
        body = {
            "apiVersion": NAMESPACE_MAPS.api_version,
            "kind": NAMESPACE_MAPS.kind,
            "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
            "status": msgspec.to_builtins(wanted),
        }
        try:
            await self._client.apply(
                NAMESPACE_MAPS,
                body,
                name=meta.name,
                namespace=meta.namespace,
                subresource="status",
                field_manager=FIELD_MANAGER,
            )
        except ApiError as error:
            if not (error.not_found or error.status == 409):
                raise
