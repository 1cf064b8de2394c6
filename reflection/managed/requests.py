"""What the manager asks of the API server about a ShadowPod and its pod: one request each, and what its refusal means.

Decides nothing (that is `shadow_pods`). Whatever writes asks first whether this process still leads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from api.offloading.definitions import SHADOW_PODS
from api.offloading.shadow_pod import ShadowPod
from kube.client import Client, PatchType
from kube.errors import ApiError
from kube.objects import Object
from kube.resources import NAMESPACES, PODS
from kube.store import Key, Store
from reflection.forge import names
from reflection.managed import refusals
from reflection.managed.names import POD_FINALIZER, SHADOW_FINALIZER
from reflection.managed.pod import Json
from reflection.managed.refusals import Refusal


class Requests:
    """`check_leading` raises if this process may not write (any more)."""

    def __init__(self, client: Client, *, namespaces: Store[Object], check_leading: Callable[[], None]) -> None:
        self._client = client
        self._namespaces = namespaces
        self._check_leading = check_leading

    # -- reading

    async def consumer(self, namespace: str) -> str | None:
        """The consumer whose namespace this is."""
        found = self._namespaces.get(("", namespace))
        if found is None:
            found = await self._client.get(NAMESPACES, name=namespace, decode=Object)
        return found.metadata.labels.get(names.CONSUMER_LABEL)

    async def shadow(self, key: Key) -> ShadowPod | None:
        """The ShadowPod of this name as the API server has it now."""
        return await self._client.find(SHADOW_PODS, namespace=key[0], name=key[1], decode=ShadowPod)

    async def pod(self, key: Key) -> Object | None:
        """The pod of this name as the API server has it now."""
        return await self._client.find(PODS, namespace=key[0], name=key[1], decode=Object)

    # -- the ShadowPod

    async def claim(self, shadow: ShadowPod) -> ShadowPod | None:
        """The ShadowPod as it is now, with our finalizer; None if it is another one or gone."""
        meta = shadow.metadata
        if SHADOW_FINALIZER in meta.finalizers:
            found = await self.shadow(meta.key)
            return found if found is not None and found.metadata.uid == meta.uid else None
        return await self._set_finalizers(shadow, [*meta.finalizers, SHADOW_FINALIZER])

    async def let_go(self, shadow: ShadowPod) -> None:
        """Take our finalizer from a ShadowPod: its pod is gone."""
        finalizers = shadow.metadata.finalizers
        if SHADOW_FINALIZER in finalizers:
            await self._set_finalizers(shadow, [one for one in finalizers if one != SHADOW_FINALIZER])

    async def _set_finalizers(self, shadow: ShadowPod, finalizers: Sequence[str]) -> ShadowPod | None:
        """Set them in the very state that we know; None if that is not the state any more."""
        meta = shadow.metadata
        body: dict[str, Any] = {
            "metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": finalizers}
        }
        self._check_leading()
        try:
            return await self._client.patch(
                SHADOW_PODS, body, name=meta.name, namespace=meta.namespace, decode=ShadowPod
            )
        except ApiError as error:
            if error.not_found:
                return None
            raise

    # -- the pod

    async def create(self, key: Key, body: Json) -> Object:
        """Make a pod. Raises ApiError."""
        self._check_leading()
        return await self._client.create(PODS, body, namespace=key[0], decode=Object)

    async def change(self, running: Json, patch: Json, subresource: str | None = None) -> Object | Refusal:
        """Change the pod that we know; the changed one, or what stands against it. Raises ApiError: try again."""
        meta = running["metadata"]
        body = {**patch, "metadata": {**patch.get("metadata", {}), "uid": meta["uid"]}}
        self._check_leading()
        try:
            return await self._client.patch(
                PODS,
                body,
                name=meta["name"],
                namespace=meta["namespace"],
                subresource=subresource,
                kind=PatchType.STRATEGIC,
                decode=Object,
            )
        except ApiError as error:
            if error.retryable or error.status == 409 or error.not_found:
                raise
            return refusals.change(error)

    async def release(self, pod: Object) -> None:
        """Take our finalizer from a pod: what there is to know of it is recorded."""
        meta = pod.metadata
        if POD_FINALIZER not in meta.finalizers:
            return
        self._check_leading()
        body = {"metadata": {"uid": meta.uid, "$deleteFromPrimitiveList/finalizers": [POD_FINALIZER]}}
        try:
            await self._client.patch(PODS, body, name=meta.name, namespace=meta.namespace, kind=PatchType.STRATEGIC)
        except ApiError as error:
            _bear_gone(error)

    async def delete(self, pod: Object, *, grace: int | None) -> None:
        """Delete a pod with `grace` seconds (None: its own), unless it goes already and as soon."""
        meta = pod.metadata
        if meta.deletion_timestamp and (grace is None or (meta.deletion_grace_period_seconds or 0) <= grace):
            return
        self._check_leading()
        try:
            await self._client.delete(
                PODS, name=meta.name, namespace=meta.namespace, uid=meta.uid, grace_period_seconds=grace
            )
        except ApiError as error:
            _bear_gone(error)


def _bear_gone(error: ApiError) -> None:
    """It is gone, or another one by now: nothing is left to do."""
    if not (error.not_found or error.status == 409):
        raise error
