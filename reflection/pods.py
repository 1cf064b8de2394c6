"""The path of a pod: one reconcile brings a consumer's pod and its remote pod in step.

Level-based: it looks at what both caches show (and at the ledger of our own unseen writes), decides, writes at
most a few requests and returns. Each case is a method; the order of the cases is the order of the rules.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import structlog

from kube.controller import Result
from kube.errors import ApiError, TransportError
from kube.objects import Object
from kube.store import Evidence, Key, Store
from reflection import fence, ownership
from reflection.caches import RemoteCaches, RemoteNamespace
from reflection.changes import Changer
from reflection.contexts import Contexts
from reflection.decode import cut_short, decode_pod, restart_counts, started, terminal
from reflection.endings import Endings
from reflection.forge import names
from reflection.forge import status as forge_status
from reflection.forge.model import ForgeContext, ForgedPod, Note, Refused
from reflection.forge.pod import forge_pod, is_mirror
from reflection.forge.references import mounts, references
from reflection.ledger import ASSUMED_SECONDS, Ledger
from reflection.mapping import NamespaceNotMappedError
from reflection.namespaces import (
    ForeignNamespaceError,
    MappedNamespaces,
    NamespaceDeniedError,
    NamespaceGoingError,
    says_lost,
)
from reflection.references import References, reference_keys
from reflection.remotes import Recorded, Remotes, Seen
from reflection.reports import Reports
from reflection.storage.claims import Claims
from reflection.tokens import TokenRefusedError, Tokens

log = structlog.get_logger(__name__)

REFUSED_RETRY = 60.0
"""Seconds until a pod that can't be offloaded as it is is tried again: the provider may have changed."""
SUPPLY_RETRY = 5.0
"""The same for one whose claims or tokens are not to be had now: they come and go by themselves."""
BLOCKED_RETRY = 1.0
"""Seconds until a pod is tried again whose name is still taken by a predecessor."""
ENDING_RETRY = 5.0
"""Seconds until a remote pod is asked for again that is being deleted and that the cache wrongly lacks."""
_UNKNOWN_FIELD = re.compile(r'unknown field "(.{1,256})"')
"""An API server's warning that it dropped a field (apimachinery, pkg/runtime/serializer/json)."""
DOUBT_RETRY = 60.0
"""The same for one that runs: nothing hangs on it, and the cache will show it before."""


@dataclass(frozen=True, slots=True)
class Pair:
    """What a reconcile works on: the consumer's pod and where its remote pod belongs."""

    key: Key
    origin: Object
    pod: dict[str, Any]
    context: ForgeContext
    caches: RemoteNamespace

    @property
    def remote_key(self) -> Key:
        """Key of the remote pod."""
        return self.caches.name, self.key[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the reconciler is built from."""

    remotes: Remotes
    pods: Store[Object]
    caches: RemoteCaches
    references: References
    namespaces: MappedNamespaces
    contexts: Contexts
    reports: Reports
    ledger: Ledger
    changer: Changer
    endings: Endings
    tokens: Tokens
    claims: Claims
    gives_tokens: Callable[[str], bool]


class PodReconciler:
    """Reconciles by key of the consumer's pod. Calls for one key must be serial; see `kube.controller`."""

    def __init__(self, parts: Parts) -> None:
        self._p = parts

    async def reconcile(self, key: Key) -> Result | None:
        """Bring one pod in step. Errors are raised: the controller tries again."""
        origin = self._p.pods.get(key)
        if origin is None:
            return await self._p.endings.origin_gone(key)
        pod = decode_pod(origin)
        if is_mirror(pod):
            return None  # a static pod's shadow: nobody's to run
        try:
            remote_namespace = await self._p.namespaces.ensure(key[0])
        except (NamespaceNotMappedError, ForeignNamespaceError, NamespaceDeniedError) as error:
            return await self._nowhere_to_go(key, origin, pod, Refused("metadata.namespace", str(error)))
        except NamespaceGoingError as error:
            return self._await_namespace(key, error)
        if (entry := self._p.ledger.peek(key)) is not None:
            entry.waits = ""
        caches = self._p.caches.ensure(remote_namespace)
        if not caches.synced:
            return None  # all keys of the namespace are queued once it is
        context = self._p.contexts.of(remote_namespace, tokens=self._p.gives_tokens(key[0]))
        pair = Pair(key, origin, pod, context, caches)
        return await self._decide(pair)

    def _await_namespace(self, key: Key, error: NamespaceGoingError) -> Result:
        entry = self._p.ledger[key]
        if entry.waits != str(error):
            entry.waits = str(error)
            log.info("pod waits for its namespace", pod=f"{key[0]}/{key[1]}", reason=str(error))
        return Result(requeue_after=BLOCKED_RETRY)

    async def _decide(self, pair: Pair) -> Result | None:
        remote = self._p.ledger.remote(pair.key, pair.caches.remotes.store, pair.remote_key)
        if self._p.ledger.is_overdue(pair.key):
            self._p.ledger[pair.key].assumed = remote = await self._find_remote(pair)
        if remote is None and self._only_unlisted(pair):
            remote = await self._find_remote(pair)
            if remote is not None:
                retry = ENDING_RETRY if pair.origin.metadata.deletion_timestamp else DOUBT_RETRY
                return await self._act(pair, remote) or Result(requeue_after=retry)
        return await self._act(pair, remote)

    def _only_unlisted(self, pair: Pair) -> bool:
        """Whether a list lacked the remote pod and no watch told of its end: lists can be wrong (fault F12)."""
        tombstone = pair.caches.remotes.store.tombstone(pair.remote_key)
        return tombstone is not None and tombstone.evidence is not Evidence.WATCH

    async def _act(self, pair: Pair, remote: Object | None) -> Result | None:
        if remote is not None and ownership.origin_uid(remote.metadata) != pair.origin.metadata.uid:
            await self._p.endings.remove_orphan(pair.key, remote)
            return Result(requeue_after=BLOCKED_RETRY)
        if pair.origin.metadata.deletion_timestamp:
            return await self._p.endings.end(pair.key, pair.origin, pair.pod, pair.context, remote)
        if remote is not None:
            return await self._keep_in_step(pair, remote)
        if self._p.ledger.origin_is_behind(pair.key, pair.origin) or await self._tell_last(pair):
            return Result(requeue_after=BLOCKED_RETRY)  # the consumer's watch wakes it before that
        if terminal(pair.pod):
            return None  # it ran to its end: never run it again
        return await self._start(pair)

    # -- no remote pod yet, or no more

    async def _tell_last(self, pair: Pair) -> bool:
        """Tell the last that was seen of a remote pod that is gone, if it went before that was told; False if it was.

        Whether a pod may run again hangs on whether it ever ran and how it ended, so this has to be known first.
        """
        entry = self._p.ledger.peek(pair.key)
        departed = entry.departed if entry is not None else None
        if entry is None or departed is None or departed.metadata.uid == entry.told:
            return False
        told = False
        if ownership.origin_uid(departed.metadata) == pair.origin.metadata.uid:
            told = await self._tell(pair, decode_pod(departed), in_step=False)
        entry.told = departed.metadata.uid
        return told

    async def _tell(self, pair: Pair, remote_pod: dict[str, Any], *, in_step: bool) -> bool:
        """Give the consumer's pod the status that its remote pod's state means; False if it has that."""
        if cut_short(pair.pod, remote_pod):
            remote_pod["status"]["phase"] = "Running"  # the pod goes on: in a new remote pod, once this one is gone
        wanted = forge_status.forge_status(
            pair.pod, remote_pod, context=pair.context, now=self._p.contexts.now(), in_step=in_step
        )
        return await self._p.reports.status(pair.key, pair.origin, pair.pod, wanted)

    async def _start(self, pair: Pair) -> Result | None:
        try:
            self._admit(pair)
            forged = self._forge(pair)
        except Refused as refused:
            return await self._refuse(pair, refused)
        except NamespaceGoingError as error:
            return self._await_namespace(pair.key, error)
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

    def _admit(self, pair: Pair) -> None:
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

    def _forge(self, pair: Pair) -> ForgedPod:
        base = {name: count + 1 for name, count in restart_counts(pair.pod).items()} if started(pair.pod) else {}
        return forge_pod(pair.pod, context=pair.context, restart_base=base)

    async def _await_references(self, pair: Pair) -> Result | None:
        problems = self._p.references.problems(pair.key)
        if problems:
            return await self._refuse(pair, Refused("spec", "; ".join(problems)))
        return None  # woken when the copies are there

    async def _may_recreate(self, pair: Pair) -> bool:
        """The remote pod of a started pod is missing: is it lost, and may it run again?"""
        remote = await self._find_remote(pair)
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

    async def _find_remote(self, pair: Pair) -> Object | None:
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

    # -- both are there

    async def _keep_in_step(self, pair: Pair, remote: Object) -> Result | None:
        self._p.ledger[pair.key].in_doubt = False
        meta = pair.origin.metadata
        has_tokens = mounts(self._p.remotes.asked(remote), names.token_secret_name(meta.name, meta.uid))
        if has_tokens:  # whatever its namespace says by now: it keeps what it was made with
            pair = replace(pair, context=self._p.contexts.of(pair.caches.name))
            self._resume_tokens(pair)
        self._track_running(pair, api_access=has_tokens)
        in_step = not self._p.ledger.remote_is_behind(pair.key, remote)
        if in_step and not terminal(pair.pod):
            in_step = await self._p.changer.pass_on(pair.key, pair.origin, pair.pod, remote, context=pair.context)
        refusal = self._p.remotes.refusal(remote)
        if refusal is not None:
            return await self._provider_refuses(pair, remote, refusal)
        self._tell_change_refused(pair, remote)
        if self._p.remotes.running(remote, pair.caches.pods.store) is not None:
            self._p.ledger[pair.key].reported = ""
        if not self._p.ledger.origin_is_behind(pair.key, pair.origin):
            await self._tell_seen(pair, remote, in_step=in_step)
        return None

    async def _tell_seen(self, pair: Pair, remote: Object, *, in_step: bool) -> None:
        """Give the consumer's pod the status that it should have, if there is anything new to say."""
        seen = self._p.remotes.seen(remote, pair.caches.pods.store)
        match seen:
            case None:
                return
            case Seen():
                await self._tell(pair, seen.pod, in_step=in_step and seen.current)
            case Recorded():
                await self._tell_recorded(pair, seen)

    async def _tell_recorded(self, pair: Pair, recorded: Recorded) -> None:
        departed = self._departed(pair)
        if departed is not None:
            await self._tell(pair, departed, in_step=False)
            return
        wanted = forge_status.recorded_status(
            pair.pod,
            phase=recorded.phase,
            reason=recorded.reason,
            message=recorded.message,
            now=self._p.contexts.now(),
        )
        await self._p.reports.status(pair.key, pair.origin, pair.pod, wanted)

    def _departed(self, pair: Pair) -> dict[str, Any] | None:
        """The provider's pod as it was last, if that was its end."""
        departed = self._p.ledger[pair.key].departed
        if departed is None or ownership.origin_uid(departed.metadata) != pair.origin.metadata.uid:
            return None
        pod = decode_pod(departed)
        return pod if terminal(pod) else None

    async def _provider_refuses(self, pair: Pair, remote: Object, refusal: Refused) -> Result | None:
        """The provider makes no pod. The asking stays, for its reason may pass, unless nothing new may go there."""
        try:
            self._admit(pair)
        except Refused as refused:
            await self._p.remotes.delete(remote, grace=0)
            refusal = refused
        except NamespaceGoingError:
            await self._p.remotes.delete(remote, grace=0)
        await self._p.reports.problem(pair.key, pair.origin, pair.pod, refusal)
        return None  # woken when the provider says something else

    def _tell_change_refused(self, pair: Pair, remote: Object) -> None:
        """Tell of a change that the provider did not pass on, once."""
        entry, text = self._p.ledger[pair.key], self._p.remotes.change_refusal(remote)
        if text and text != entry.refused_change:
            self._p.reports.event(pair.origin, kind="Warning", reason="ChangeRefused", message=text)
        entry.refused_change = text

    def _resume_tokens(self, pair: Pair) -> None:
        """After a restart: take up the tokens of a pod that runs already. What they are only forging it tells."""
        namespace, tokens = pair.caches.name, self._p.tokens
        if pair.context.api_access is None or terminal(pair.pod) or tokens.holds(pair.origin, namespace=namespace):
            return
        try:
            requests = self._forge(pair).token_requests
        except Refused:
            return  # forged by an earlier version with other rules: it runs, and has no tokens of ours
        tokens.resume(pair.origin, requests, namespace=namespace)

    def _track_running(self, pair: Pair, *, api_access: bool) -> None:
        """After a restart, or when an ephemeral container was added: know what the pod names."""
        refs = reference_keys(pair.key[0], references(pair.pod, api_access=api_access))
        self._p.references.track(pair.key, refs, remote_namespace=pair.caches.name)

    # -- refusals

    async def _refuse(self, pair: Pair, refused: Refused, *, retry: float = REFUSED_RETRY) -> Result:
        await self._p.reports.problem(pair.key, pair.origin, pair.pod, refused)
        return Result(requeue_after=retry)

    async def _nowhere_to_go(self, key: Key, origin: Object, pod: dict[str, Any], refused: Refused) -> Result | None:
        if origin.metadata.deletion_timestamp:
            return await self._p.endings.remove_origin(key, origin)
        await self._p.reports.problem(key, origin, pod, refused)
        return Result(requeue_after=REFUSED_RETRY)


def _unknown_fields(warnings: Iterable[str]) -> tuple[Note, ...]:
    """What to tell of fields that the provider's version dropped; its other warnings are no news to the pod's owner."""
    fields = [match[1] for text in warnings if (match := _UNKNOWN_FIELD.fullmatch(text))]
    if not fields:
        return ()
    message = f"the provider does not know {', '.join(fields)} and runs the pod without"
    return (Note(reason="FieldUnknownToProvider", message=message),)
