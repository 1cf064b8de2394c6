"""How a pod comes to have a remote pod: what must be there before, the one request that makes it, and what its refusal
means. The same for a pod whose remote pod was lost.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

import structlog

from kube.controller import Result
from kube.errors import ApiError, TransportError
from kube.objects import Object
from kube.store import Key
from reflection import fence, ownership
from reflection.decode import restart_counts, started
from reflection.forge import status as forge_status
from reflection.forge.model import ForgedPod, Note, Refused
from reflection.forge.pod import forge_pod
from reflection.ledger import ASSUMED_SECONDS
from reflection.mapping import NamespaceNotMappedError
from reflection.namespaces import NamespaceGoingError, says_lost
from reflection.pair import Pair, Parts
from reflection.references import reference_keys
from reflection.tokens import TokenRefusedError

log = structlog.get_logger(__name__)

REFUSED_RETRY = 60.0
"""Seconds until a pod that can't be offloaded as it is is tried again: the provider may have changed."""
SUPPLY_RETRY = 5.0
"""The same for one whose claims or tokens are not to be had now: they come and go by themselves."""
BLOCKED_RETRY = 1.0
"""Seconds until a pod is tried again whose name is still taken by a predecessor."""
_UNKNOWN_FIELD = re.compile(r'unknown field "(.{1,256})"')
"""An API server's warning that it dropped a field (apimachinery, pkg/runtime/serializer/json)."""


class Starts:
    """Makes remote pods."""

    def __init__(self, parts: Parts) -> None:
        self._p = parts

    async def start(self, pair: Pair) -> Result | None:
        """Make the remote pod, or say what is in the way."""
        try:
            self.admit(pair)
            forged = self.forge(pair)
        except Refused as refused:
            return await self._refuse(pair, refused)
        except NamespaceGoingError as error:
            return self.await_namespace(pair.key, error)
        refs = reference_keys(pair.key[0], forged.references)
        if not self._p.references.track(pair.key, refs, remote_namespace=pair.caches.name):
            return await self._await_references(pair)
        if started(pair.pod) and not await self._may_recreate(pair):
            return None
        try:
            await self._supply(pair, forged)
        except Refused as refused:
            return await self._refuse(pair, refused, retry=SUPPLY_RETRY)
        return await self._create(pair, forged)

    def admit(self, pair: Pair) -> None:
        """Raise `Refused` where nothing new may go; what runs already is made good."""
        try:
            if not started(pair.pod):
                self._p.namespaces.admits(pair.key[0])
        except NamespaceNotMappedError as error:
            raise Refused("metadata.namespace", str(error)) from error

    async def _supply(self, pair: Pair, forged: ForgedPod) -> None:
        """See to it that the pod's claims and tokens are there, and free. Raises `Refused`."""
        taken = fence.holder(pair.key, pair.pod, pair.caches.pods.store.values(), self._p.pods)
        if taken is not None:
            why = f"its claim is in use at the provider by {taken}, whose pod is gone here: it is being removed"
            raise Refused("spec.volumes", why)
        await self._p.claims.ensure(pair.origin, pair.pod, remote_namespace=pair.caches.name)
        if forged.token_requests:
            try:
                await self._p.tokens.ensure(pair.origin, forged.token_requests, namespace=pair.caches.name)
            except TokenRefusedError as error:
                raise Refused("spec.serviceAccountName", str(error)) from error

    def forge(self, pair: Pair) -> ForgedPod:
        """The remote pod as it is to be. Raises `Refused`."""
        base = {name: count + 1 for name, count in restart_counts(pair.pod).items()} if started(pair.pod) else {}
        return forge_pod(pair.pod, context=pair.context, restart_base=base)

    async def _await_references(self, pair: Pair) -> Result | None:
        problems = self._p.references.problems(pair.key)
        if problems:
            return await self._refuse(pair, Refused("spec", "; ".join(problems)))
        return None  # woken when the copies are there

    async def _may_recreate(self, pair: Pair) -> bool:
        """The remote pod of a started pod is missing: is it lost, and may it run again?"""
        remote = await self.find_remote(pair)
        if remote is not None:
            self._p.ledger[pair.key].assumed = remote
            return False
        message = "the remote pod vanished from the provider"
        if pair.pod["spec"].get("restartPolicy") == "Never":
            wanted = forge_status.lost_status(
                pair.pod, reason="RemotePodLost", message=message, now=self._p.contexts.now()
            )
            await self._p.reports.status(pair.key, pair.origin, pair.pod, wanted)
            self._p.reports.event(pair.origin, kind="Warning", reason="RemotePodLost", message=message)
            return False
        self._p.reports.event(
            pair.origin, kind="Warning", reason="RemotePodLost", message=f"{message}; it is created again"
        )
        return True

    async def find_remote(self, pair: Pair) -> Object | None:
        """Ask the provider itself: the remote pod of this very consumer pod, whatever the cache shows."""
        found = await self._p.remotes.find(pair.remote_key)
        ours = found is not None and ownership.origin_uid(found.metadata) == pair.origin.metadata.uid
        return found if ours else None

    async def _create(self, pair: Pair, forged: ForgedPod) -> Result | None:
        entry = self._p.ledger[pair.key]
        entry.in_doubt = True  # until an answer is read: a cancelled request may have been executed
        warnings: list[str] = []
        try:
            created = await self._p.remotes.create(forged.body, on_warning=warnings.append)
        except TransportError as error:
            entry.in_doubt = error.sent
            raise
        except ApiError as error:
            entry.in_doubt = error.status >= 500
            return await self._create_failed(pair, error)
        entry.in_doubt, entry.assumed, entry.reported = False, created, ""
        entry.assumed_at, entry.deleting = time.monotonic(), None
        self._p.reports.notes(pair.origin, (*forged.notes, *_unknown_fields(warnings)))
        return Result(requeue_after=ASSUMED_SECONDS + 1.0)  # by then the cache shows it, or its end was missed

    async def _create_failed(self, pair: Pair, error: ApiError) -> Result | None:
        if error.already_exists:
            return await self._adopt(pair)
        if says_lost(error):
            self._p.namespaces.forget(pair.caches.name)
        if error.status >= 500 or error.throttled:
            raise error
        await self._p.reports.problem(
            pair.key, pair.origin, pair.pod, Refused("provider", f"{error.reason}: {error.message}")
        )
        raise error

    async def _adopt(self, pair: Pair) -> Result | None:
        """The name is taken: by our own create whose answer was lost, by a predecessor, or by a stranger."""
        namespace, name = pair.remote_key
        existing = await self._p.remotes.find(pair.remote_key)
        if existing is None:
            return Result(requeue_after=0.0)
        if ownership.origin_uid(existing.metadata) == pair.origin.metadata.uid:
            entry = self._p.ledger[pair.key]
            entry.assumed, entry.in_doubt = existing, False
            return Result(requeue_after=0.0)
        if ownership.is_ours(existing.metadata, pair.context.consumer_id):
            return Result(requeue_after=BLOCKED_RETRY)  # its own reconcile removes it, here or at another virtual node
        taken = Refused(
            "metadata.name",
            f"the provider has a {self._p.remotes.resource.kind} {namespace}/{name} that isthmus did not make; remove "
            "or rename one of the two",
        )
        return await self._refuse(pair, taken)

    async def _refuse(self, pair: Pair, refused: Refused, *, retry: float = REFUSED_RETRY) -> Result:
        await self._p.reports.problem(pair.key, pair.origin, pair.pod, refused)
        return Result(requeue_after=retry)

    def await_namespace(self, key: Key, error: NamespaceGoingError) -> Result:
        """Wait for a namespace of the provider to be gone, and say so once."""
        entry = self._p.ledger[key]
        if entry.waits != str(error):
            entry.waits = str(error)
            log.info("pod waits for its namespace", pod=f"{key[0]}/{key[1]}", reason=str(error))
        return Result(requeue_after=BLOCKED_RETRY)


def _unknown_fields(warnings: Iterable[str]) -> tuple[Note, ...]:
    """What to tell of fields that the provider's version dropped; its other warnings are no news to the pod's owner."""
    fields = [match[1] for text in warnings if (match := _UNKNOWN_FIELD.fullmatch(text))]
    if not fields:
        return ()
    message = f"the provider does not know {', '.join(fields)} and runs the pod without"
    return (Note(reason="FieldUnknownToProvider", message=message),)
