"""The provider's side of a pod: a ShadowPod becomes a pod of its name, if it may.

Level-based, as `reflection.pods`. What must hold whenever the manager ends or the other replica takes over:

- At most one pod: the pod has the ShadowPod's name, and names the ShadowPod's UID in a label.
- A pod that ended is not run again. Each pod has a finalizer of ours, so that none vanishes before its end is seen; the
  end is written to the ShadowPod's status first, and only then the finalizer goes. Before a pod is made the ShadowPod
  is read, or written with its resourceVersion: a cache that lags behind an earlier record decides nothing.
- A ShadowPod has a finalizer of ours before its pod is made, and keeps it until the API server says that the pod is
  gone. Should someone strike that finalizer, the pod's ownerReference leaves the pod to the garbage collector.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from api.offloading.shadow_pod import ShadowPod
from kube.client import Client
from kube.controller import Result
from kube.errors import ApiError
from kube.objects import Object
from kube.store import Evidence, Key, Store
from reflection.decode import TERMINAL_PHASES, decode_pod
from reflection.ledger import Ledger
from reflection.managed import pod as forging
from reflection.managed import refusals
from reflection.managed.admission import Admission
from reflection.managed.checks import check
from reflection.managed.names import POD_FINALIZER
from reflection.managed.pod import Course, Json, Verdict
from reflection.managed.refusals import Refusal
from reflection.managed.reports import Reporter
from reflection.managed.requests import Requests
from reflection.managed.tenancy import Tenants

log = structlog.get_logger(__name__)

BLOCKED_RETRY: Final = 1.0
"""Seconds until a ShadowPod is looked at again whose pod's name is taken by one that goes."""
GONE_RETRY: Final = 5.0
"""Seconds until it is asked again whether a pod is gone that the cache lacks."""
EARLY_RETRY: Final = 0.2
"""Seconds until a pod is tried again in a namespace that has no service account yet."""
SETTLE_SECONDS: Final = 2.0
"""A new pod's status is not written before: by then it mostly runs, which saves a write."""


@dataclass(slots=True)
class Memory:
    """What we know of one ShadowPod before the caches show it."""

    recorded: str = ""
    """UID of the ShadowPod whose end was written."""
    made_at: float = 0.0
    restarts: dict[str, int] = field(default_factory=dict)
    unstarted: str = ""
    """UID of the pod that was seen to go before anything of it ran."""


class ShadowPods:
    """Reconciles by key of the ShadowPod. `check_leading` raises if this process may not write (any more)."""

    def __init__(
        self,
        client: Client,
        tenants: Tenants,
        *,
        admission: Admission,
        shadows: Store[ShadowPod],
        pods: Store[Object],
        namespaces: Store[Object],
        reporter: Reporter,
        check_leading: Callable[[], None],
    ) -> None:
        self._requests = Requests(client, namespaces=namespaces, check_leading=check_leading)
        self._tenants = tenants
        self._admission = admission
        self._shadows = shadows
        self._pods = pods
        self._reporter = reporter
        self._check_leading = check_leading
        self._ledger = Ledger()
        self._memory: dict[Key, Memory] = {}

    async def reconcile(self, key: Key) -> Result | None:
        """Bring one ShadowPod and its pod in step. Errors are raised: the controller tries again."""
        self._check_leading()
        shadow = self._shadows.get(key)
        pod = self._ledger.remote(key, self._pods, key)
        if self._ledger.is_overdue(key):  # it may have come and gone while no watch was there to tell
            found = await self._requests.pod(key)
            ours = found is not None and forging.made_for(found.metadata)
            pod = self._ledger[key].assumed = found if ours else None
        if pod is not None and (shadow is None or forging.made_for(pod.metadata) != shadow.metadata.uid):
            await self._bereaved(key, pod)
            return Result(requeue_after=BLOCKED_RETRY) if shadow is not None else None
        if shadow is None:
            self._forget(key)
            return None
        if shadow.metadata.deletion_timestamp:
            return await self._end(key, shadow, pod)
        if self._has_ended(key, shadow):
            if pod is not None:
                await self._requests.release(pod)
            return None
        if pod is None:
            return await self._start(key, shadow)
        return await self._keep(key, shadow, pod)

    def _forget(self, key: Key) -> None:
        self._ledger.forget(key)
        self._memory.pop(key, None)
        self._admission.release(key)

    def _remember(self, key: Key) -> Memory:
        return self._memory.setdefault(key, Memory())

    def _has_ended(self, key: Key, shadow: ShadowPod) -> bool:
        memory = self._memory.get(key)
        recorded = memory is not None and memory.recorded == shadow.metadata.uid
        return recorded or shadow.status.phase in TERMINAL_PHASES

    async def _bereaved(self, key: Key, pod: Object) -> None:
        """A pod whose ShadowPod is not there, by the cache: the garbage collector ends it, we only let it go."""
        if not pod.metadata.deletion_timestamp or POD_FINALIZER not in pod.metadata.finalizers:
            return
        found = await self._requests.shadow(key)
        if found is None or found.metadata.uid != forging.made_for(pod.metadata):
            await self._requests.release(pod)

    # -- no pod yet

    async def _start(self, key: Key, shadow: ShadowPod) -> Result | None:
        asked = forging.template(shadow)
        consumer_id = await self._requests.consumer(key[0])
        if consumer_id is None:
            return await self._refuse(shadow, refusals.NOT_MAPPED)
        refusal = self._check(asked, consumer_id)
        if refusal is not None:
            return await self._refuse(shadow, refusal)
        fresh = await self._requests.claim(shadow)
        if fresh is None or fresh.status.phase in TERMINAL_PHASES or fresh.metadata.deletion_timestamp:
            return Result(requeue_after=BLOCKED_RETRY)  # the cache is about to tell
        if self._may_have_run(key, fresh, asked):
            if (found := await self._unseen(key, fresh)) is not None:
                self._assume(key, found)
                return Result(requeue_after=0.0)
            lost = Verdict(Course.ENDED, "Failed", forging.LOST, "the pod vanished and may not run twice")
            await self._record(key, fresh, lost, fresh.status.pod_uid)
            return None
        return await self._create(key, fresh, asked, consumer_id)

    def _check(self, asked: Json, consumer_id: str) -> Refusal | None:
        violations = check(asked, consumer_id=consumer_id, limits=self._tenants.limits(consumer_id))
        return refusals.forbidden(violations) if violations else None

    def _may_have_run(self, key: Key, shadow: ShadowPod, asked: Json) -> bool:
        """Whether an earlier pod may have run that may not run twice; its end was not seen, against its finalizer."""
        earlier = shadow.status.pod_uid
        if not earlier or asked["spec"].get("restartPolicy") != "Never":
            return False
        return self._remember(key).unstarted != earlier

    async def _create(self, key: Key, shadow: ShadowPod, asked: Json, consumer_id: str) -> Result | None:
        refusal = await self._admission.admit(key, asked, consumer_id=consumer_id)
        if refusal is not None:
            return await self._refuse(shadow, refusal)
        memory = self._remember(key)
        body = forging.forge(
            shadow,
            asked,
            consumer_id=consumer_id,
            limits=self._tenants.limits(consumer_id),
            restart_base=memory.restarts,
        )
        try:
            created = await self._requests.create(key, body)
        except ApiError as error:
            if error.already_exists:
                return await self._taken(key, shadow)
            if error.retryable:
                raise
            self._admission.release(key)
            if refusals.is_too_early(error):
                return Result(requeue_after=EARLY_RETRY)
            return await self._refuse(shadow, refusals.of(error))
        self._admission.made(key, created.metadata)
        memory.made_at = self._assume(key, created)
        log.info("made pod", pod=f"{key[0]}/{key[1]}", consumer_id=consumer_id)
        return Result(requeue_after=SETTLE_SECONDS)

    async def _taken(self, key: Key, shadow: ShadowPod) -> Result | None:
        """The name is taken: by our own create whose answer was lost, by a predecessor that goes, or by a stranger."""
        found = await self._requests.pod(key)
        if found is None:
            return Result(requeue_after=0.0)
        owner = forging.made_for(found.metadata)
        if owner == shadow.metadata.uid:
            self._admission.made(key, found.metadata)
            self._assume(key, found)
            return Result(requeue_after=0.0)
        self._admission.release(key)
        if owner:
            await self._bereaved(key, found)
            return Result(requeue_after=BLOCKED_RETRY)
        return await self._refuse(shadow, refusals.taken(key))

    async def _refuse(self, shadow: ShadowPod, refusal: Refusal) -> Result:
        meta = shadow.metadata
        log.info("pod refused", pod=f"{meta.namespace}/{meta.name}", reason=refusal.reason, message=refusal.message)
        await self._reporter.refused(shadow, refusal)
        return Result(requeue_after=refusal.retry)

    # -- both are there

    async def _keep(self, key: Key, shadow: ShadowPod, pod: Object) -> Result | None:
        asked, running = forging.template(shadow), decode_pod(pod)
        verdict = forging.judge(asked, running)
        memory = self._remember(key)
        match verdict.course:
            case Course.ENDED:
                await self._record(key, shadow, verdict, pod.metadata.uid)
                await self._requests.release(pod)
                return None
            case Course.OVER:
                memory.restarts = dict(verdict.restarts)
                memory.unstarted = pod.metadata.uid if not forging.has_run(running) else ""
                await self._requests.release(pod)
                return Result(requeue_after=BLOCKED_RETRY)
            case Course.GOING:
                return None
        problem = await self._pass_on(key, shadow, asked, running)
        left = memory.made_at + SETTLE_SECONDS - time.monotonic()
        if verdict.phase == "Pending" and left > 0:
            return Result(requeue_after=left)
        await self._reporter.running(shadow, phase=verdict.phase, pod_uid=pod.metadata.uid, problem=problem)
        return None

    async def _pass_on(self, key: Key, shadow: ShadowPod, asked: Json, running: Json) -> Refusal | None:
        """Pass on what changed in the ShadowPod since; what stands against it, if anything does."""
        consumer_id = await self._requests.consumer(key[0]) or ""
        found = forging.changes(shadow, asked, running, consumer_id=consumer_id)
        if not found:
            return self._reporter.problem(shadow)
        refusal = self._check(asked, consumer_id)
        if refusal is not None:
            return refusal
        known = self._reporter.problem(shadow)
        if known is None and found.ephemeral is not None:
            known = _refusal(await self._requests.change(running, found.ephemeral, "ephemeralcontainers"))
        if known is None and found.resize is not None:
            known = await self._resize(key, asked, running, found.resize, consumer_id=consumer_id)
        if found.patch is not None:
            refused = _refusal(await self._requests.change(running, found.patch))
            known = known or refused
        return known

    async def _resize(self, key: Key, asked: Json, running: Json, patch: Json, *, consumer_id: str) -> Refusal | None:
        refusal = await self._admission.admit(key, asked, consumer_id=consumer_id, grows=True)
        if refusal is not None:
            return refusal
        changed = await self._requests.change(running, patch, "resize")
        if isinstance(changed, Refusal):
            self._admission.release(key)
            return changed
        self._admission.made(key, changed.metadata)
        return None

    # -- the end

    async def _record(self, key: Key, shadow: ShadowPod, verdict: Verdict, pod_uid: str) -> None:
        self._check_leading()
        await self._reporter.ended(shadow, verdict, pod_uid=pod_uid)
        self._remember(key).recorded = shadow.metadata.uid
        log.info("pod ended", pod=f"{key[0]}/{key[1]}", phase=verdict.phase, reason=verdict.reason)

    async def _end(self, key: Key, shadow: ShadowPod, pod: Object | None) -> Result | None:
        """The consumer wants the pod gone: delete it with its grace, and let the ShadowPod go after it."""
        pod = pod or await self._unseen(key, shadow)
        if pod is None:
            await self._requests.let_go(shadow)
            return None
        await self._requests.release(pod)
        await self._requests.delete(pod, grace=shadow.spec.deletion_grace_period_seconds)
        return Result(requeue_after=GONE_RETRY)

    def _seen_to_go(self, key: Key, shadow: ShadowPod) -> bool:
        """Whether the watch told of the end of its last pod: then there is no need to ask."""
        tombstone = self._pods.tombstone(key)
        known = shadow.status.pod_uid
        return tombstone is not None and tombstone.evidence is Evidence.WATCH and tombstone.uid == known

    async def _unseen(self, key: Key, shadow: ShadowPod) -> Object | None:
        """The pod that the cache does not show: a list may lie (fault F12), and a watch tells of a pod's end."""
        if self._seen_to_go(key, shadow):
            return None
        found = await self._requests.pod(key)
        return found if found is not None and forging.made_for(found.metadata) == shadow.metadata.uid else None

    def _assume(self, key: Key, pod: Object) -> float:
        """Believe in a pod until the cache shows it; since when, by the monotonic clock."""
        entry = self._ledger[key]
        entry.assumed, entry.assumed_at = pod, time.monotonic()
        return entry.assumed_at


def _refusal(answer: Object | Refusal) -> Refusal | None:
    return answer if isinstance(answer, Refusal) else None
