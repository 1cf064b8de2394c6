"""What NamespaceOffloading objects want of one provider: its namespaces made, told of, and removed.

Runs in the virtual kubelets; of those that share a provider, one writes (`Leadership`). See `declared` for the protocol
with the controller.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import prometheus_client
import structlog

from api.offloading.definitions import NAMESPACE_OFFLOADINGS
from api.offloading.namespaces import NAME, NamespaceOffloading, ObjectProblem
from kube.client import Client
from kube.controller import Controller, Result
from kube.election import NotLeader
from kube.errors import ApiError, KubeError
from kube.events import clean
from kube.resources import PODS, Resource
from reflection.mapping import NamespaceNotMappedError
from reflection.namespaces import (
    ForeignNamespaceError,
    NamespaceDeniedError,
    NamespaceGoingError,
    NamespacePendingError,
)
from reflection.scheduling import declared
from reflection.scheduling.declared import Declared
from reflection.scheduling.leadership import NOT_LEADING_RETRY, Leadership
from reflection.scheduling.removal import IsEmpty, RemoteNamespaces, Removal
from reflection.scheduling.status import Answer, write

log = structlog.get_logger(__name__)

VERIFY_SECONDS: Final = 60.0
"""How often a namespace that is ready is looked at: the provider may have removed it."""
WAIT_SECONDS: Final = 1.0
"""How often one is looked at that is on its way out."""
PROBLEMS_DELAY: Final = 1.0
"""How long changes of what is to tell of single objects are gathered."""
LEFTOVER_SECONDS: Final = 600.0
"""How often the provider is asked for namespaces of ours that nobody wants."""


NEVER_MADE: Final = frozenset({"Denied", "ForeignNamespace"})
"""Reasons that say that nothing of ours has ever been there."""
_PASSING: Final = frozenset({"ProviderUnreachable", "ProviderError", "AccessLost"})
"""Reasons for which what was reflected is still looked after: the provider may just be away."""


_REFUSALS: Final = (ForeignNamespaceError, NamespaceDeniedError, NamespaceNotMappedError, NamespaceGoingError)


@dataclass(frozen=True, slots=True)
class Entry:
    """A namespace at this provider, for those who reflect into it."""

    namespace: str
    remote: str
    leaving: bool = False


def field_manager(provider: str) -> str:
    """The field manager of a provider's part of the entries."""
    return f"isthmus-provider-{provider}"


class ProviderNamespaces:
    """Reconciles by consumer namespace. `entries_changed` gets the whole set whenever it may have changed."""

    def __init__(
        self,
        *,
        consumer: Client,
        provider: Client,
        provider_id: str,
        consumer_id: str,
        objects: Declared,
        namespaces: RemoteNamespaces,
        leadership: Leadership,
        entries_changed: Callable[[Iterable[Entry]], None] = lambda _entries: None,
        is_empty: IsEmpty = lambda _remote: True,
        problems: Callable[[str], Sequence[ObjectProblem]] = lambda _namespace: (),
        remotes: Resource = PODS,
        registry: prometheus_client.CollectorRegistry | None = None,
    ) -> None:
        """`problems` of a consumer namespace's objects are asked for after `problems_changed`, and now and then."""
        self._consumer = consumer
        self._provider_id = provider_id
        self._objects = objects
        self._namespaces = namespaces
        self._leadership = leadership
        self._entries_changed = entries_changed
        self._problems = problems
        self._removal = Removal(
            provider,
            namespaces,
            consumer_id=consumer_id,
            leadership=leadership,
            is_empty=is_empty,
            remotes=remotes,
        )
        self._leftover: dict[str, str] = {}
        self._seen: dict[str, float] = {}
        """When (monotonic) a namespace was found to be there."""
        self.controller: Controller[str] = Controller(
            "provider-namespaces", self._reconcile, concurrency=16, registry=registry
        )
        objects.listeners.append(self.look)

    def look(self, namespace: str) -> None:
        """Something about a consumer namespace changed."""
        self.controller.queue.add(namespace)
        self._tell()

    def problems_changed(self, namespace: str) -> None:
        """There may be something else to tell of single objects; several of them change together."""
        self.controller.queue.add(namespace, delay=PROBLEMS_DELAY)

    async def run(self) -> None:
        """Reconcile for ever; namespaces that an earlier process made and that nobody wants any more are found too."""
        await self._objects.reflector.synced.wait()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._find_leftovers(), name="provider-namespaces/leftovers")
            group.create_task(self.controller.run(), name="provider-namespaces/controller")

    def entries(self) -> list[Entry]:
        """The namespaces that are at this provider, by what the objects say: every process sees the same."""
        found = []
        for offloading in self._objects.reflector.store.values():
            said = declared.entry(offloading, self._provider_id)
            if offloading.metadata.name != NAME or said is None or said.reason in ("", "Preparing", *NEVER_MADE):
                continue
            wanted = declared.wanted(offloading, self._provider_id)
            if not wanted or said.ready or said.reason in _PASSING:
                namespace = offloading.metadata.namespace
                found.append(Entry(namespace, self._objects.mapping.remote(namespace), leaving=not wanted))
        return found

    def _tell(self) -> None:
        self._entries_changed(self.entries())

    def _object(self, namespace: str) -> NamespaceOffloading | None:
        return self._objects.reflector.store.get((namespace, NAME))

    async def _find_leftovers(self) -> None:
        delay = 1.0
        while True:
            try:
                found = await self._namespaces.existing()
            except KubeError as error:
                if isinstance(error, ApiError) and error.forbidden:
                    return  # who may not see namespaces has made none
                log.warning("provider namespaces not listed", error=str(error))
                await asyncio.sleep(delay)
                delay = min(delay * 2, VERIFY_SECONDS)
                continue
            for remote, origin in found.items():
                self._objects.mapping.learn(origin, remote)
                self._leftover[origin] = remote
                self.controller.queue.add(origin)
            await asyncio.sleep(LEFTOVER_SECONDS)

    # -- reconciling

    async def _reconcile(self, namespace: str) -> Result | None:
        try:
            self._leadership.check()
            return await self._bring(namespace)
        except NotLeader:
            return Result(requeue_after=NOT_LEADING_RETRY)

    async def _bring(self, namespace: str) -> Result | None:
        offloading = self._object(namespace)
        if offloading is None:
            return await self._clear(namespace)
        if declared.wanted(offloading, self._provider_id):
            return await self._admit(offloading)
        if declared.entry(offloading, self._provider_id) is not None:
            return await self._withdraw(offloading)
        return await self._clear(namespace)

    async def _admit(self, offloading: NamespaceOffloading) -> Result | None:
        namespace = offloading.metadata.namespace
        current = declared.entry(offloading, self._provider_id)
        if current is None or not current.reason:
            # First say so, then make it: see the protocol. The answer shows whether it is still wanted.
            written = await self._answer(offloading, Answer(False, "Preparing", "the namespace is being prepared"))
            if written is None or not declared.wanted(written, self._provider_id):
                return None
            offloading = written
        remote = self._objects.mapping.remote(namespace)
        if time.monotonic() - self._seen.get(namespace, float("-inf")) >= VERIFY_SECONDS / 2:
            self._namespaces.forget(remote)
            self._seen.pop(namespace, None)
        answer, retry = await self._ensured(namespace, was_there=_was_there(offloading, self._provider_id))
        if answer.ready:
            self._seen.setdefault(namespace, time.monotonic())
        else:
            self._seen.pop(namespace, None)
        await self._answer(offloading, answer.with_problems(self._problems(namespace)))
        return Result(requeue_after=retry)

    async def _ensured(self, namespace: str, *, was_there: bool) -> tuple[Answer, float]:
        try:
            remote = await self._namespaces.ensure(namespace)
        except (*_REFUSALS, KubeError) as error:
            return _problem(error, was_there=was_there)
        return Answer(True, "Mapped", f"pods of the namespace run in {remote}"), VERIFY_SECONDS

    async def _withdraw(self, offloading: NamespaceOffloading) -> Result | None:
        """Remove what was made, and with it our part of the entry."""
        namespace = offloading.metadata.namespace
        said = declared.entry(offloading, self._provider_id)
        if said is None or not said.reason:
            return None  # we have said nothing, so have made nothing, or said that nothing is left
        if said.reason in NEVER_MADE:
            await self._namespaces.unask(namespace)
            await self._answer(offloading, None)
            return None
        try:
            left = await self._remove(namespace, self._objects.mapping.remote(namespace))
        except KubeError as error:
            reason = "AccessLost" if isinstance(error, ApiError) and error.forbidden else "ProviderUnreachable"
            left = Answer(False, reason, clean(f"not removed yet: {error}"))
        await self._answer(offloading, left)
        return Result(requeue_after=WAIT_SECONDS) if left is not None else None

    async def _clear(self, namespace: str) -> Result | None:
        """Nobody asks for the namespace here: remove what an earlier time left."""
        remote = self._leftover.get(namespace)
        if remote is None:
            return None
        if await self._still_declared(namespace):
            return Result(requeue_after=WAIT_SECONDS)
        left = await self._remove(namespace, remote)
        if left is not None:
            log.info("provider namespace not removed yet", namespace=remote, reason=left.message)
            return Result(requeue_after=WAIT_SECONDS if left.reason == "Removing" else VERIFY_SECONDS)
        return None

    async def _still_declared(self, namespace: str) -> bool:
        """Whether the cache wrongly lacks the object, or its entry: what is removed has to be proved unwanted."""
        try:
            found = await self._consumer.get(
                NAMESPACE_OFFLOADINGS, namespace=namespace, name=NAME, decode=NamespaceOffloading
            )
        except ApiError as error:
            if error.not_found:
                return False
            raise
        return declared.entry(found, self._provider_id) is not None

    async def _remove(self, namespace: str, remote: str) -> Answer | None:
        left = await self._removal.remove(remote)
        if left is None:
            self._leftover.pop(namespace, None)
            self._seen.pop(namespace, None)
            self._objects.mapping.forget(namespace)
        return left

    async def _answer(self, offloading: NamespaceOffloading, answer: Answer | None) -> NamespaceOffloading | None:
        """Write our part of the entry (None: end it), unless it says so already. None: the object is gone."""
        current = declared.entry(offloading, self._provider_id)
        if answer is not None and current is not None and answer.said_in(current):
            return offloading
        said = [answer.entry(self._provider_id)] if answer is not None else []
        self._leadership.check()
        return await write(self._consumer, offloading, {"providers": said}, manager=field_manager(self._provider_id))


def _problem(error: Exception, *, was_there: bool) -> tuple[Answer, float]:
    """Why a namespace is not ready, and after how many seconds to try again."""
    match error:
        case NamespaceDeniedError():
            reason, retry = "Denied", VERIFY_SECONDS / 6
        case NamespacePendingError():
            reason, retry = "Preparing", WAIT_SECONDS
        case ForeignNamespaceError():
            reason, retry = "ForeignNamespace", VERIFY_SECONDS / 6
        case NamespaceGoingError():
            reason, retry = "NamespaceGoing", WAIT_SECONDS
        case NamespaceNotMappedError():
            reason, retry = "NotSelected", VERIFY_SECONDS
        case ApiError() if error.forbidden or error.invalid:
            reason, retry = "AccessLost" if was_there else "Denied", VERIFY_SECONDS / 6
        case ApiError():
            reason, retry = "ProviderError", WAIT_SECONDS
        case _:
            reason, retry = "ProviderUnreachable", WAIT_SECONDS
    return Answer(False, reason, clean(str(error))), retry


def _was_there(offloading: NamespaceOffloading, provider: str) -> bool:
    said = declared.entry(offloading, provider)
    return said is not None and (said.ready or said.reason in _PASSING)
