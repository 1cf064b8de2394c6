"""The manager's side: stubs for claims, their growth, and the end of their data.

Nothing at the provider is deleted before Kubernetes itself has released the volume (its claim is gone for good) and the
class or the user has said Delete. A volume that is kept (Retain) loses its stub when somebody deletes that, no more.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any, Protocol

import prometheus_client
import structlog

from kube.client import Client
from kube.controller import Controller, Result
from kube.errors import ApiError
from kube.events import EventRecorder
from kube.objects import ObjectReference, WithMetadata
from kube.reflector import Reflector
from kube.resources import NAMESPACES
from kube.store import Change, Key
from reflection import ownership
from reflection.storage.model import (
    CLAIMS,
    FINALIZER,
    REMOTE_NAMESPACE,
    SELECTED_NODE,
    STORAGE_CLASSES,
    VOLUMES,
    Claim,
    Volume,
    stub,
    unsupported,
    volume_name,
)

log = structlog.get_logger(__name__)

Json = dict[str, Any]

POLL_SECONDS = 5.0
_MANAGED = "app.kubernetes.io/managed-by=isthmus"


class Providers(Protocol):
    """What storage needs to know of virtual nodes and their providers."""

    def of_node(self, node: str) -> str | None:
        """The provider of a virtual node; None if the node is no virtual one."""

    def remote_namespace(self, provider: str, namespace: str) -> str:
        """What a namespace is called at the provider."""

    def client(self, provider: str) -> AbstractAsyncContextManager[Client | None]:
        """A client of the provider; None if no VirtualNode names it any more."""


class Storage:
    """Reconciles claims by key, and volumes by name. Run `cache_tasks`, then the controllers while leading."""

    def __init__(
        self,
        client: Client,
        providers: Providers,
        recorder: EventRecorder,
        *,
        consumer_id: str,
        check: Callable[[], None] = lambda: None,
        registry: prometheus_client.CollectorRegistry | None = None,
    ) -> None:
        self._client = client
        self._providers = providers
        self._recorder = recorder
        self._consumer_id = consumer_id
        self._check = check
        self.claims: Reflector[Claim] = Reflector(
            client, CLAIMS, decode=Claim, on_change=self._claim_changed, registry=registry
        )
        self.volumes: Reflector[Volume] = Reflector(
            client,
            VOLUMES,
            decode=Volume,
            label_selector=_MANAGED,
            on_change=self._volume_changed,
            registry=registry,
        )
        self.claim_controller: Controller[Key] = Controller("claims", self.reconcile_claim, registry=registry)
        self.volume_controller: Controller[Key] = Controller("volumes", self.reconcile_volume, registry=registry)

    def cache_tasks(self) -> list[tuple[str, Reflector[Any]]]:
        """What must be in step before anything is decided."""
        return [("claims", self.claims), ("volumes", self.volumes)]

    def _claim_changed(self, change: Change[Claim]) -> None:
        if change.new is not None and change.new.ours:
            self.claim_controller.queue.add(change.key)

    def _volume_changed(self, change: Change[Volume]) -> None:
        self.volume_controller.queue.add(change.key)
        if change.new is not None:
            claim = change.new.spec.claim_ref
            self.claim_controller.queue.add((claim.namespace, claim.name))

    # -- claims

    async def reconcile_claim(self, key: Key) -> Result | None:
        """Give a claim its volume, or let it grow."""
        claim = self.claims.store.get(key)
        if claim is None or not claim.ours or claim.metadata.deletion_timestamp is not None:
            return None
        self._check()
        if not claim.spec.volume_name:
            return await self._provision(claim)
        volume = self.volumes.store.get(("", claim.spec.volume_name))
        if volume is None or claim.status.phase != "Bound" or volume.spec.claim_ref.uid != claim.metadata.uid:
            return None
        if volume.spec.capacity.get("storage") != claim.size:
            return await self._grow(claim, volume)
        if claim.status.capacity.get("storage") != claim.size:
            await self._tell_size(claim)
        return None

    async def _provision(self, claim: Claim) -> Result | None:
        node = claim.metadata.annotations.get(SELECTED_NODE)
        if not node or ("", volume_name(claim)) in self.volumes.store:
            return None
        if (why := unsupported(claim)) is not None:
            self._warn(claim, "ProvisioningFailed", why)
            return None
        provider = self._providers.of_node(node)
        if provider is None:
            self._warn(claim, "ProvisioningFailed", f"node {node} is no virtual node: this class works on those only")
            await self._choose_again(claim)
            return None
        body = stub(
            claim,
            provider=provider,
            remote_namespace=self._providers.remote_namespace(provider, claim.metadata.namespace),
            reclaim_policy=await self._reclaim_policy(claim),
        )
        try:
            await self._client.create(VOLUMES, body)
        except ApiError as error:
            if not error.already_exists:
                raise
        log.info("made volume", claim="/".join(claim.metadata.key), provider=provider)
        return None

    async def _choose_again(self, claim: Claim) -> None:
        """As external provisioners do: without the annotation the scheduler chooses anew."""
        metadata = {"resourceVersion": claim.metadata.resource_version, "annotations": {SELECTED_NODE: None}}
        try:
            await self._client.patch(
                CLAIMS, {"metadata": metadata}, name=claim.metadata.name, namespace=claim.metadata.namespace
            )
        except ApiError as error:
            if not (error.conflict or error.not_found):
                raise

    async def _reclaim_policy(self, claim: Claim) -> str:
        try:
            found: Json = await self._client.get(STORAGE_CLASSES, name=claim.spec.storage_class_name)
        except ApiError as error:
            if error.not_found:
                return "Retain"  # nobody says that the data may go
            raise
        return str(found.get("reclaimPolicy") or "Delete")

    async def _grow(self, claim: Claim, volume: Volume) -> Result | None:
        async with self._providers.client(volume.provider) as provider:
            if provider is None:
                return None
            remote = await self._remote(provider, volume)
            if remote is None:
                return Result(requeue_after=POLL_SECONDS)  # made with the new size when its pod comes
            if remote.size != claim.size and not await self._ask_for_more(provider, claim, remote):
                return None
        if remote.status.capacity.get("storage") != claim.size:
            return Result(requeue_after=POLL_SECONDS)
        body = {"spec": {"capacity": {"storage": claim.size}}}
        await self._client.patch(VOLUMES, body, name=volume.metadata.name)
        await self._tell_size(claim)
        log.info("volume grew", claim="/".join(claim.metadata.key), size=claim.size)
        return None

    async def _ask_for_more(self, provider: Client, claim: Claim, remote: Claim) -> bool:
        body = {
            "metadata": {"uid": remote.metadata.uid},
            "spec": {"resources": {"requests": {"storage": claim.size}}},
        }
        try:
            await provider.patch(CLAIMS, body, name=remote.metadata.name, namespace=remote.metadata.namespace)
        except ApiError as error:
            if error.retryable or error.conflict:
                raise
            self._warn(claim, "VolumeResizeFailed", f"the provider refuses {claim.size}: {error.message}")
            return False
        return True

    async def _tell_size(self, claim: Claim) -> None:
        body = {
            "metadata": {"uid": claim.metadata.uid},
            "status": {"capacity": {"storage": claim.size}, "conditions": None},
        }
        await self._client.patch(
            CLAIMS, body, name=claim.metadata.name, namespace=claim.metadata.namespace, subresource="status"
        )

    def _warn(self, claim: Claim, reason: str, message: str) -> None:
        meta = claim.metadata
        ref = ObjectReference(
            api_version="v1", kind=CLAIMS.kind, namespace=meta.namespace, name=meta.name, uid=meta.uid
        )
        self._recorder.event(ref, type="Warning", reason=reason, message=message)

    # -- volumes

    async def reconcile_volume(self, key: Key) -> Result | None:
        """End a released volume's data where that is wanted, then its stub."""
        volume = self.volumes.store.get(key)
        if volume is None or FINALIZER not in volume.metadata.finalizers:
            return None
        self._check()
        wanted = volume.spec.persistent_volume_reclaim_policy == "Delete" and volume.status.phase in (
            "Released",
            "Failed",
        )
        if wanted and (left := await self._remove_data(volume)) is not None:
            return left
        if wanted and volume.metadata.deletion_timestamp is None:
            await self._delete_stub(volume)
        elif volume.metadata.deletion_timestamp is not None and volume.status.phase != "Bound":
            await self._let_go(volume)
        return None

    async def _remove_data(self, volume: Volume) -> Result | None:
        """Delete the provider's claim; None once it is gone."""
        async with self._providers.client(volume.provider) as provider:
            if provider is None:
                log.warning("volume's provider is not known any more", volume=volume.metadata.name)
                return Result(requeue_after=60.0)
            remote = await self._remote(provider, volume)
            if remote is None:
                return None
            if remote.metadata.deletion_timestamp is None:
                meta = remote.metadata
                await provider.delete(CLAIMS, name=meta.name, namespace=meta.namespace, uid=meta.uid)
                log.info("removed claim at the provider", claim="/".join(meta.key), at=str(datetime.now(UTC)))
        return Result(requeue_after=1.0)

    async def _remote(self, provider: Client, volume: Volume) -> Claim | None:
        """The provider's claim for this very volume."""
        ref, namespace = volume.spec.claim_ref, volume.spec.csi.volume_attributes.get(REMOTE_NAMESPACE, "")
        try:
            found = await provider.get(CLAIMS, name=ref.name, namespace=namespace, decode=Claim)
        except ApiError as error:
            if error.not_found or (error.forbidden and await _gone(provider, namespace)):
                return None
            raise
        ours = ownership.is_ours(found.metadata, self._consumer_id)
        return found if ours and ownership.origin_uid(found.metadata) == ref.uid else None

    async def _delete_stub(self, volume: Volume) -> None:
        try:
            await self._client.delete(VOLUMES, name=volume.metadata.name, uid=volume.metadata.uid)
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise

    async def _let_go(self, volume: Volume) -> None:
        finalizers = [name for name in volume.metadata.finalizers if name != FINALIZER]
        metadata = {"resourceVersion": volume.metadata.resource_version, "finalizers": finalizers}
        try:
            await self._client.patch(VOLUMES, {"metadata": metadata}, name=volume.metadata.name)
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise


async def _gone(provider: Client, namespace: str) -> bool:
    """Whether a namespace of ours is not there any more: our rights went with it, and so did the claim."""
    try:
        await provider.get(NAMESPACES, name=namespace, decode=WithMetadata)
    except ApiError as error:
        if error.not_found:
            return True
        raise
    return False
