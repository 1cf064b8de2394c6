"""How pods end: graceful deletion, a consumer's pod that is gone, and remote pods that nobody owns any more."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog

from kube.client import Client
from kube.controller import Result
from kube.errors import ApiError
from kube.objects import Object
from kube.resources import PODS
from kube.store import Evidence, Key, Store
from reflection import ownership, proof
from reflection.caches import RemoteCaches
from reflection.decode import decode_pod, terminal
from reflection.forge import status as forge_status
from reflection.forge.model import ForgeContext
from reflection.ledger import Ledger
from reflection.mapping import NamespaceMapping, NamespaceNotMappedError
from reflection.references import References
from reflection.remotes import Remotes
from reflection.reports import Reports

log = structlog.get_logger(__name__)

FORCED_GRACE = 1
"""Grace in seconds for the remote pod of one that was force-deleted. Not 0: the API object then stays until the
containers are dead, so that a successor of the same name never runs beside it (invariant I2)."""
DOUBT_RETRY = 5.0
"""Seconds until a remote pod is looked at again whose origin turned out to be alive."""
REMOVAL_RETRY = 10.0
"""Seconds for which the watch may take to show that a consumer's object is gone before its removal is sent again."""


class Endings:
    """Deletes at the provider on proof only, and at the consumer only what is gone from the provider."""

    def __init__(
        self,
        *,
        consumer: Client,
        remotes: Remotes,
        pods: Store[Object],
        caches: RemoteCaches,
        references: References,
        mapping: NamespaceMapping,
        reports: Reports,
        ledger: Ledger,
        node_name: str,
        pod_gone: Callable[[Key], None],
        now: Callable[[], str],
    ) -> None:
        self._consumer = consumer
        self._remotes = remotes
        self._pods = pods
        self._caches = caches
        self._references = references
        self._mapping = mapping
        self._reports = reports
        self._ledger = ledger
        self._node_name = node_name
        self._pod_gone = pod_gone
        self._now = now

    async def end(
        self, key: Key, origin: Object, pod: dict[str, Any], context: ForgeContext, remote: Object | None
    ) -> Result | None:
        """The consumer's pod is being deleted: delete the remote one with the same grace, then confirm."""
        if remote is None:
            uid = origin.metadata.uid
            if not self._seen_to_go(key, context.remote_namespace) and await self._find(
                key, context.remote_namespace, uid
            ):
                return Result(requeue_after=0.0)
            return await self._confirm(key, origin, pod, context)
        grace = origin.metadata.deletion_grace_period_seconds
        await self._delete_remote(key, remote, grace=max(FORCED_GRACE, 30 if grace is None else grace))
        return None

    async def origin_gone(self, key: Key) -> Result | None:
        """The consumer has no such pod (any more)."""
        try:
            namespace = self._mapping.remote(key[0])
        except NamespaceNotMappedError:
            self._forget(key)
            return None
        caches = self._caches.get(namespace)
        if caches is None:
            self._forget(key)
            return None
        if not caches.synced:
            return None
        remote = self._ledger.remote(key, caches.remotes.store, (namespace, key[1]))
        if remote is None:
            entry = self._ledger.peek(key)
            if entry is not None and entry.in_doubt and await self._find(key, namespace, uid=None):
                return Result(requeue_after=0.0)
            self._forget(key)
            return None
        return await self.remove_orphan(key, remote)

    async def remove_orphan(self, key: Key, remote: Object) -> Result | None:
        """Delete a remote pod whose origin is proved to be gone."""
        uid = ownership.origin_uid(remote.metadata)
        if uid is None or ownership.origin_key(remote.metadata) != key:
            return None  # not made by us, or forged: hands off
        state = await proof.origin_state(self._consumer, self._pods, key, uid=uid, node_name=self._node_name)
        if state is proof.Origin.ALIVE:
            return Result(requeue_after=DOUBT_RETRY)
        await self._delete_remote(key, remote, grace=FORCED_GRACE)
        return None

    async def remove_origin(self, key: Key, origin: Object) -> Result | None:
        """Nothing is left at the provider: let the consumer's object go (grace 0, this UID only)."""
        if self._is_removed(key, origin):
            return Result(requeue_after=REMOVAL_RETRY)
        try:
            await self._consumer.delete(
                PODS, name=key[1], namespace=key[0], uid=origin.metadata.uid, grace_period_seconds=0
            )
        except ApiError as error:
            if not (error.not_found or error.status == 409):
                raise
        self._forget(key)
        self._ledger[key].removed = (origin.metadata.uid, time.monotonic())
        return None

    def _is_removed(self, key: Key, origin: Object) -> bool:
        """Whether the consumer accepted the removal a moment ago, and its watch has yet to show it."""
        entry = self._ledger.peek(key)
        if entry is None or entry.removed is None or entry.removed[0] != origin.metadata.uid:
            return False
        return time.monotonic() - entry.removed[1] < REMOVAL_RETRY

    def _seen_to_go(self, key: Key, namespace: str) -> bool:
        """Whether the watch said that the remote pod was deleted: then there is no need to ask."""
        caches, entry = self._caches.get(namespace), self._ledger.peek(key)
        if caches is None or (entry is not None and entry.in_doubt):
            return False
        tombstone = caches.remotes.store.tombstone((namespace, key[1]))
        return tombstone is not None and tombstone.evidence is Evidence.WATCH

    def _forget(self, key: Key) -> None:
        self._references.untrack(key)
        self._ledger.forget(key)
        self._pod_gone(key)

    async def _find(self, key: Key, namespace: str, uid: str | None) -> bool:
        """Settle a doubt: ask the provider whether the create was executed after all."""
        entry = self._ledger[key]
        found = await self._remotes.find((namespace, key[1]))
        entry.in_doubt = False
        if found is None:
            return False
        ours = ownership.origin_key(found.metadata) == key
        if ours and (uid is None or ownership.origin_uid(found.metadata) == uid):
            entry.assumed = found
            return True
        return False

    async def _delete_remote(self, key: Key, remote: Object, *, grace: int) -> None:
        entry, meta, given = self._ledger[key], remote.metadata, self._remotes.grace(remote)
        if given is not None and given <= grace:
            return
        if entry.deleting is not None and entry.deleting[0] == meta.uid and entry.deleting[1] <= grace:
            return
        await self._remotes.delete(remote, grace=grace)
        entry.deleting = (meta.uid, grace)

    async def _confirm(self, key: Key, origin: Object, pod: dict[str, Any], context: ForgeContext) -> Result | None:
        """The remote pod is gone: send its last status, then remove the consumer's object."""
        if self._is_removed(key, origin):
            return Result(requeue_after=REMOVAL_RETRY)
        wanted = self._final_status(key, pod, context)
        if wanted is not None:
            await self._reports.status(key, origin, pod, wanted)
        return await self.remove_origin(key, origin)

    def _final_status(self, key: Key, pod: dict[str, Any], context: ForgeContext) -> dict[str, Any] | None:
        """Status to leave behind; matters where a finalizer keeps the object, as the Job controller's does."""
        departed = self._ledger[key].departed
        if departed is not None and ownership.origin_uid(departed.metadata) == pod["metadata"]["uid"]:
            remote = decode_pod(departed)
            if terminal(remote) or pod["metadata"].get("finalizers"):
                wanted = forge_status.forge_status(pod, remote, context=context, now=self._now())
                return wanted if terminal(remote) else {**wanted, "phase": "Failed"}
        if pod["metadata"].get("finalizers") and not terminal(pod):
            return {**pod["status"], "phase": "Failed"}
        return None
