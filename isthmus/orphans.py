"""What is left at providers of virtual nodes that are no more: pods that nobody here looks after or can see (F31).

A VirtualNode that is removed takes its pods along. They stay if somebody took its finalizer away, or deleted the Node
of a virtual kubelet that was started by hand. Nothing is deleted here, for it is not known what they are good for; but
they are told of.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import structlog

from api.offloading.virtual_node import VirtualNode
from isthmus import remote_namespaces
from isthmus.providers import Providers
from kube.client import Client
from kube.errors import ApiError, KubeError
from kube.events import clean
from kube.objects import WithMetadata
from kube.resources import Resource
from reflection import ownership
from reflection.forge import names

log = structlog.get_logger(__name__)

LOOK_SECONDS = 600.0
"""How often a provider is asked."""
CONFIRM_SECONDS = 20.0
"""How long after pods were found they are looked for again, before they are told of: they may be about to end."""
_BOUND = 10.0
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class _Pod:
    """A remote pod, of a virtual node that is not."""

    node: str
    namespace: str
    name: str


@dataclass(slots=True)
class _Provider:
    """What is known of one provider."""

    due: float
    """When (monotonic) to look next."""
    found: frozenset[_Pod] = frozenset()
    confirmed: frozenset[_Pod] | None = None
    """Found twice in succession; None before the first look."""


class Orphans:
    """The manager's `Orphans`. `nodes` are the names of all virtual nodes there are, or are to be."""

    def __init__(
        self,
        providers: Providers,
        *,
        consumer_id: str,
        nodes: Callable[[], Collection[str]],
        given: Callable[[str], Iterable[str]] = lambda _provider: (),
        interval: float = LOOK_SECONDS,
        confirm: float = CONFIRM_SECONDS,
    ) -> None:
        """`given` are namespaces of a provider that stand for ours, whoever made them."""
        self._providers = providers
        self._consumer_id = consumer_id
        self._nodes = nodes
        self._given = given
        self._interval = interval
        self._confirm = confirm
        self._known: dict[str, _Provider] = {}

    async def __call__(self, virtual: VirtualNode) -> str | None:
        """What to tell of the VirtualNode's provider, empty for nothing; None if it is not known. Never raises."""
        known = self._known.setdefault(virtual.spec.provider, _Provider(due=time.monotonic()))
        if time.monotonic() >= known.due:
            known.due = time.monotonic() + self._interval  # also if it fails; and others do not ask meanwhile
            try:
                async with asyncio.timeout(_BOUND):
                    found = await self._look(virtual)
            except (KubeError, OSError, TimeoutError) as error:
                log.info("provider not asked for orphans", provider=virtual.spec.provider, error=str(error))
            else:
                known.confirmed, known.found = found & known.found, found
                if found:
                    known.due = time.monotonic() + self._confirm  # are they still there?
        return None if known.confirmed is None else _text(known.confirmed)

    async def _look(self, virtual: VirtualNode) -> frozenset[_Pod]:
        async with self._providers.client_of(virtual.spec.kubeconfig_secret) as provider:
            if provider is None:
                return frozenset()
            made = await remote_namespaces.namespaces(provider, virtual, consumer_id=self._consumer_id)
            found: set[_Pod] = set()
            for namespace in sorted({*made, *self._given(virtual.spec.provider)}):
                for kind in remote_namespaces.pod_kinds(virtual):
                    found |= await self._pods(provider, kind, namespace)
            return frozenset(found)

    async def _pods(self, provider: Client, kind: Resource, namespace: str) -> set[_Pod]:
        known = sorted({names.label_value(node) for node in self._nodes()})
        selector = f"{ownership.consumer_selector(self._consumer_id)},{names.NODE_LABEL}"
        if known:
            selector += f",{names.NODE_LABEL} notin ({','.join(known)})"
        try:
            listing = await provider.list(kind, namespace=namespace, label_selector=selector, decode=WithMetadata)
        except ApiError as error:
            if error.forbidden or error.not_found:
                return set()  # not ours any more
            raise
        found = (item.metadata for item in listing.items)
        return {_Pod(meta.labels[names.NODE_LABEL], namespace, meta.name) for meta in found}


def _text(found: Collection[_Pod]) -> str:
    if not found:
        return ""
    nodes = ", ".join(sorted({pod.node for pod in found})[:_SHOWN])
    shown = ", ".join(sorted(f"{pod.namespace}/{pod.name}" for pod in found)[:_SHOWN])
    more = ", ..." if len(found) > _SHOWN else ""
    return clean(
        f"{len(found)} pods at the provider are of virtual nodes that are no more ({nodes}): {shown}{more}; delete "
        "them there, or make a VirtualNode of that nodeName again, which ends what has no pod here"
    )
