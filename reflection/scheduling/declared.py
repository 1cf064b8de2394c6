"""The namespace mapping that NamespaceOffloading objects declare, as a virtual kubelet sees it.

Protocol between the controller (`controller`, in the manager) and the virtual kubelets (`provider`, one per provider
writes), all of it in `status.providers`, a map by provider that both write by server-side apply as two field managers:

- The controller writes `namespace` for each provider that the object selects: that namespace is wanted there.
- The virtual kubelet answers `ready`, `reason` and `message`, the first time before it makes anything. So what is at
  the provider always shows in an entry.
- Reasons Denied and ForeignNamespace say that nothing was ever made.
- An entry without `namespace`, or any entry of an object that is being deleted, means: leave. The virtual kubelet
  removes what was made, once nothing runs there any more, and then its part of the entry, with which the entry ends.
- The controller lets a deleted object go when no entry is left. Entries of providers that have no virtual node any
  more are ended by the controller: nobody else could.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import prometheus_client
import structlog

from api.offloading.common import Mapping
from api.offloading.definitions import NAMESPACE_OFFLOADINGS
from api.offloading.namespaces import NAME, NamespaceOffloading, ProviderStatus
from kube.client import Client
from kube.reflector import Reflector, Timing
from kube.store import Change, Store
from reflection.mapping import NamespaceNotMappedError, default_name

log = structlog.get_logger(__name__)

_NOT_OFFLOADED: Final = "is not offloaded: make a NamespaceOffloading named offloading in it"


@dataclass(frozen=True, slots=True)
class RemoteName:
    """How a namespace is called at its providers."""

    consumer_id: str

    def of(self, namespace: str, mapping: Mapping, selected: str | None) -> str:
        """The provider's name. `selected` counts with SelectedName only."""
        match mapping:
            case "EnforceSameName":
                return namespace
            case "SelectedName":
                return selected or ""
            case _:
                return default_name(namespace, consumer_id=self.consumer_id)

    def declared(self, offloading: NamespaceOffloading) -> str:
        """The name that an object asks for."""
        spec = offloading.spec
        return self.of(offloading.metadata.namespace, spec.namespace_mapping, spec.remote_namespace)


def entry(offloading: NamespaceOffloading, provider: str) -> ProviderStatus | None:
    """What an object's status says about a provider."""
    return next((one for one in offloading.status.providers if one.provider == provider), None)


def wanted(offloading: NamespaceOffloading, provider: str) -> bool:
    """Whether the object wants its namespace at this provider."""
    found = entry(offloading, provider)
    return found is not None and bool(found.namespace) and not offloading.metadata.deletion_timestamp


class DeclaredMapping:
    """A `reflection.mapping.NamespaceMapping` that changes at run time.

    A name once known stays known: pods that run there have to be looked after to their end, whatever became of the
    object. `admits` tells what may be made now.
    """

    managed = True

    def __init__(self, store: Store[NamespaceOffloading], *, provider: str, consumer_id: str) -> None:
        self._store = store
        self._provider = provider
        self._names = RemoteName(consumer_id)
        self._known: dict[str, str] = {}

    def learn(self, namespace: str, remote: str) -> None:
        """A provider namespace that an earlier process made."""
        self._known.setdefault(namespace, remote)

    def forget(self, namespace: str) -> None:
        """Nothing of it is left at the provider."""
        self._known.pop(namespace, None)

    def remote(self, namespace: str) -> str:
        """See `NamespaceMapping`."""
        offloading = self._store.get((namespace, NAME))
        if offloading is not None:
            self._known[namespace] = self._names.declared(offloading)
        try:
            return self._known[namespace]
        except KeyError:
            raise NamespaceNotMappedError(namespace, _NOT_OFFLOADED) from None

    def admits(self, namespace: str) -> None:
        """See `NamespaceMapping`."""
        offloading = self._store.get((namespace, NAME))
        if offloading is None:
            raise NamespaceNotMappedError(namespace, _NOT_OFFLOADED)
        if offloading.metadata.deletion_timestamp:
            raise NamespaceNotMappedError(namespace, "is not offloaded any more: its NamespaceOffloading is going")
        if not wanted(offloading, self._provider):
            why = f"is not offloaded to provider {self._provider!r}: its NamespaceOffloading does not select it"
            raise NamespaceNotMappedError(namespace, why)

    def holds(self, namespace: str) -> bool:
        """See `NamespaceMapping`. `provider.ProviderNamespaces` removes them."""
        return True

    def known(self) -> Iterable[str]:
        """See `NamespaceMapping`."""
        return [self._names.declared(one) for one in self._store.values() if wanted(one, self._provider)]


class Declared:
    """The objects, watched, and the mapping they make.

    `listeners` are told the namespace of each object that changed, `turned` only when its namespace has become wanted
    at this provider, or no longer is; `ended` are told the provider's namespace when nothing of it is left there.
    """

    def __init__(
        self,
        consumer: Client,
        *,
        provider: str,
        consumer_id: str,
        registry: prometheus_client.CollectorRegistry | None = None,
        timing: Timing | None = None,
    ) -> None:
        self.listeners: list[Callable[[str], None]] = []
        self.turned: list[Callable[[str], None]] = []
        self.ended: list[Callable[[str], None]] = []
        self._names = RemoteName(consumer_id)
        self._provider = provider
        self.reflector: Reflector[NamespaceOffloading] = Reflector(
            consumer,
            NAMESPACE_OFFLOADINGS,
            decode=NamespaceOffloading,
            on_change=self._changed,
            registry=registry,
            timing=timing,
        )
        self.mapping = DeclaredMapping(self.reflector.store, provider=provider, consumer_id=consumer_id)

    def _changed(self, change: Change[NamespaceOffloading]) -> None:
        if change.key[1] != NAME:
            return
        for listener in self.listeners:
            listener(change.key[0])
        before, after = (one is not None and wanted(one, self._provider) for one in (change.old, change.new))
        if before != after:
            for listener in self.turned:
                listener(change.key[0])
        if change.old is not None and self._answered(change.old) and not self._answered(change.new):
            for listener in self.ended:
                listener(self._names.declared(change.old))

    def _answered(self, offloading: NamespaceOffloading | None) -> bool:
        found = entry(offloading, self._provider) if offloading is not None else None
        return found is not None and bool(found.reason)
