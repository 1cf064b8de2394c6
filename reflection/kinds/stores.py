"""The two sides of one kind: reflectors over consumer and provider namespaces, and single objects by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import prometheus_client

from kube.client import Client
from kube.errors import ApiError, KubeError
from kube.reflector import Reflector, Timing
from kube.store import Change, Key, Store
from reflection import ownership
from reflection.kinds import body, marks
from reflection.kinds.document import Document
from reflection.kinds.model import Kind
from reflection.kinds.pool import ReflectorPool

FOLLOWS, REFERS = "follows", "refers"
REFUSED_SECONDS = 30.0
"""How long a refusal has to last until it counts."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """Who is told; called on the event loop, must not block. The first argument is the namespace watched."""

    local: Callable[[str, Change[Document]], None]
    remote: Callable[[str, Change[Document]], None]
    synced: Callable[[str], None]


class Stores:
    """What is known of one kind. Namespaces are opened and closed at run time."""

    def __init__(
        self,
        kind: Kind,
        *,
        consumer: Client,
        provider: Client,
        consumer_id: str,
        pool: ReflectorPool,
        listeners: Listeners,
        document: type[Document],
        resync: float,
        registry: prometheus_client.CollectorRegistry | None = None,
    ) -> None:
        self._kind = kind
        self._consumer = consumer
        self._provider = provider
        self._consumer_id = consumer_id
        self._pool = pool
        self._listeners = listeners
        self._document = document
        self._timing = Timing(resync=resync)
        self._registry = registry
        self._locals: dict[str, Reflector[Document]] = {}
        self._remotes: dict[str, Reflector[Document]] = {}
        self._named: dict[Key, Reflector[Document]] = {}
        self._opened: dict[str, float] = {}

    # -- which namespaces

    def open_local(self, namespace: str) -> None:
        """Watch a consumer namespace; once is enough."""
        if namespace not in self._locals:
            selector = f"{marks.REFLECT}=true" if self._kind.opt_in else ""
            made = self._reflector(self._consumer, namespace, self._listeners.local, label_selector=selector)
            self._locals[namespace] = made
            self._start(made, namespace)

    def close_local(self, namespace: str) -> None:
        """Stop watching a consumer namespace."""
        made = self._locals.pop(namespace, None)
        if made is not None:
            self._pool.stop(made)
        for key in [key for key in self._named if key[0] == namespace]:
            self.unname(key)

    def open_remote(self, namespace: str) -> None:
        """Watch our objects in a provider namespace; once is enough."""
        if namespace not in self._remotes:
            selector = ownership.consumer_selector(self._consumer_id)
            made = self._reflector(self._provider, namespace, self._listeners.remote, label_selector=selector)
            self._remotes[namespace] = made
            self._opened[namespace] = time.monotonic()
            self._start(made, namespace)

    def close_remote(self, namespace: str) -> None:
        """Stop watching a provider namespace."""
        made = self._remotes.pop(namespace, None)
        if made is not None:
            self._pool.stop(made)

    def name(self, key: Key) -> None:
        """Watch one object that the namespace's own watch may not show."""
        if key not in self._named:
            made = self._reflector(
                self._consumer, key[0], self._listeners.local, field_selector=f"metadata.name={key[1]}"
            )
            self._named[key] = made
            self._start(made, key[0])

    def unname(self, key: Key) -> None:
        """Undo `name`."""
        made = self._named.pop(key, None)
        if made is not None:
            self._pool.stop(made)

    # -- what is known

    def local_synced(self, namespace: str) -> bool:
        """Whether the consumer namespace was listed completely."""
        made = self._locals.get(namespace)
        return made is not None and made.synced.is_set()

    def remote_synced(self, namespace: str) -> bool:
        """Whether the provider namespace was listed completely."""
        made = self._remotes.get(namespace)
        return made is not None and made.synced.is_set()

    def named_synced(self, key: Key) -> bool:
        """Whether it is known of the one object whether it is there."""
        made = self._named.get(key)
        return made is not None and made.synced.is_set()

    def local(self, key: Key) -> Document | None:
        """A consumer's object."""
        made = self._locals.get(key[0])
        found = made.store.get(key) if made is not None else None
        if found is None and key in self._named:
            found = self._named[key].store.get(key)
        return found

    def local_store(self, namespace: str) -> Store[Document] | None:
        """The consumer's objects of a namespace."""
        made = self._locals.get(namespace)
        return made.store if made is not None else None

    def remote(self, key: Key) -> Document | None:
        """A provider's object that bears our label."""
        made = self._remotes.get(key[0])
        return made.store.get(key) if made is not None else None

    def keys(self, namespace: str, remote: str) -> set[str]:
        """Names known on either side."""
        found = {key[1] for key in self._named if key[0] == namespace}
        for made in (self._locals.get(namespace), self._remotes.get(remote)):
            if made is not None:
                found |= {key[1] for key in made.store.keys()}  # noqa: SIM118 - a Store is no mapping
        return found

    def made(self, namespace: str) -> set[Key]:
        """Which objects of the provider namespace the engine wrote."""
        store = self._remotes[namespace].store if namespace in self._remotes else None
        found = store.values() if store is not None else ()
        return {document.metadata.key for document in found if body.is_made(document.metadata)}

    def obstacle(self, namespace: str, *, remote: str) -> KubeError | None:
        """Why one of the two namespaces can't be watched; None if it can, or nothing is known against it."""
        for made in (self._locals.get(namespace), self._remotes.get(remote)):
            if made is not None and not made.synced.is_set() and made.last_error is not None:
                return made.last_error
        return None

    def cannot_list(self, namespace: str) -> bool:
        """Whether the provider has no such kind, or has not let us list it for a good while: then we made none there.

        Rights come a moment after their binding, so that a refusal has to last.
        """
        made = self._remotes.get(namespace)
        if made is None or made.synced.is_set() or not isinstance(made.last_error, ApiError):
            return False
        lasting = time.monotonic() - self._opened.get(namespace, 0.0) > REFUSED_SECONDS
        return made.last_error.not_found or (made.last_error.forbidden and lasting)

    def healthy(self) -> bool:
        """Whether every watch is up."""
        return all(made.healthy for group in (self._locals, self._remotes) for made in group.values())

    # -- making them

    def _start(self, made: Reflector[Document], namespace: str) -> None:
        name = f"{self._kind.name}/{namespace}"
        self._pool.start(made, name=name, synced=lambda: self._listeners.synced(namespace))

    def _reflector(
        self,
        client: Client,
        namespace: str,
        listener: Callable[[str, Change[Document]], None],
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Reflector[Document]:
        return Reflector(
            client,
            self._kind.resource,
            decode=self._document,
            namespace=namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            indexes={FOLLOWS: self._followed, REFERS: self._referred},
            on_change=lambda change: listener(namespace, change),
            registry=self._registry,
            timing=self._timing,
        )

    def _followed(self, document: Document) -> Iterable[str]:
        if self._kind.follows is None:
            return ()
        name = document.metadata.labels.get(self._kind.follows[1])
        return (name,) if name else ()

    def _referred(self, document: Document) -> Iterable[str]:
        if self._kind.refers is None:
            return ()
        return {f"{ref.resource}/{ref.name}" for ref in self._kind.refers(document.json())}
