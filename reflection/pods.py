"""The path of a pod: one reconcile brings a consumer's pod and its remote pod in step.

Level-based: it looks at what both caches show (and at the ledger of our own unseen writes), decides, writes at
most a few requests and returns. Each case is a method; the order of the cases is the order of the rules.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kube.controller import Result
from kube.objects import Object
from kube.store import Evidence, Key
from reflection import ownership
from reflection.decode import cut_short, decode_pod, terminal
from reflection.forge import names
from reflection.forge import status as forge_status
from reflection.forge.model import Refused
from reflection.forge.pod import is_mirror
from reflection.forge.references import mounts, references
from reflection.mapping import NamespaceNotMappedError
from reflection.namespaces import ForeignNamespaceError, NamespaceDeniedError, NamespaceGoingError
from reflection.pair import Pair, Parts
from reflection.references import reference_keys
from reflection.remotes import Recorded, Seen
from reflection.starts import BLOCKED_RETRY, REFUSED_RETRY, Starts

ENDING_RETRY = 5.0
"""Seconds until a remote pod is asked for again that is being deleted and that the cache wrongly lacks."""
DOUBT_RETRY = 60.0
"""The same for one that runs: nothing hangs on it, and the cache will show it before."""


class PodReconciler:
    """Reconciles by key of the consumer's pod. Calls for one key must be serial; see `kube.controller`."""

    def __init__(self, parts: Parts) -> None:
        self._p = parts
        self._starts = Starts(parts)

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
            return self._starts.await_namespace(key, error)
        if (entry := self._p.ledger.peek(key)) is not None:
            entry.waits = ""
        caches = self._p.caches.ensure(remote_namespace)
        if not caches.synced:
            return None  # all keys of the namespace are queued once it is
        context = self._p.contexts.of(remote_namespace, tokens=self._p.gives_tokens(key[0]))
        pair = Pair(key, origin, pod, context, caches)
        return await self._decide(pair)

    async def _decide(self, pair: Pair) -> Result | None:
        remote = self._p.ledger.remote(pair.key, pair.caches.remotes.store, pair.remote_key)
        if self._p.ledger.is_overdue(pair.key):
            self._p.ledger[pair.key].assumed = remote = await self._starts.find_remote(pair)
        if remote is None and self._only_unlisted(pair):
            remote = await self._starts.find_remote(pair)
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
        return await self._starts.start(pair)

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
            self._starts.admit(pair)
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
            requests = self._starts.forge(pair).token_requests
        except Refused:
            return  # forged by an earlier version with other rules: it runs, and has no tokens of ours
        tokens.resume(pair.origin, requests, namespace=namespace)

    def _track_running(self, pair: Pair, *, api_access: bool) -> None:
        """After a restart, or when an ephemeral container was added: know what the pod names."""
        refs = reference_keys(pair.key[0], references(pair.pod, api_access=api_access))
        self._p.references.track(pair.key, refs, remote_namespace=pair.caches.name)

    async def _nowhere_to_go(self, key: Key, origin: Object, pod: dict[str, Any], refused: Refused) -> Result | None:
        if origin.metadata.deletion_timestamp:
            return await self._p.endings.remove_origin(key, origin)
        await self._p.reports.problem(key, origin, pod, refused)
        return Result(requeue_after=REFUSED_RETRY)
