"""All of reflection for one virtual node, put together: what is watched, what is reconciled, and what wakes what."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import prometheus_client
import structlog

from kube.client import Client
from kube.controller import Controller
from kube.events import EventRecorder
from kube.objects import ConfigMap, Event, Object, ObjectReference, Secret
from kube.queue import Priority, WorkQueue
from kube.reflector import Reflector, Timing
from kube.resources import PODS
from kube.store import Change, Key
from reflection import ownership
from reflection.caches import CacheListeners, RemoteCaches
from reflection.changes import Changer
from reflection.cleanup import NamespaceCleanup
from reflection.contexts import Contexts
from reflection.copier import Kind
from reflection.decode import decode_pod, starting
from reflection.endings import Endings
from reflection.events import EventMirror
from reflection.forge import names
from reflection.forge.references import mounts, references
from reflection.ledger import Ledger
from reflection.managed.maps import MapNamespaces
from reflection.managed.writer import ShadowRemotes
from reflection.mapping import NamespaceNotMappedError
from reflection.massend import MassEnd
from reflection.namespaces import MappedNamespaces, Namespaces
from reflection.pair import Parts
from reflection.pending import PendingLimit
from reflection.pods import PodReconciler
from reflection.references import References, RefKey, reference_keys
from reflection.remotes import DirectRemotes, Remotes
from reflection.reports import Reports
from reflection.settings import ReflectionSettings
from reflection.storage.claims import Claims
from reflection.tokens import TOKEN_FOR_LABEL, Tokens

log = structlog.get_logger(__name__)

START_DELAY = 0.1
"""Seconds that a change of a remote pod that is not Running yet waits for the next one. A starting pod changes several
times at once (made, scheduled, running), and that it waits its owner knows already: together they cost one write.
Any other change passes at once; what arrives during a write waits for its end and is one more write."""


class Offloading:
    """Owns all reflection tasks of one virtual node. Start `caches`, then `workers`, each with its own run method."""

    def __init__(
        self,
        settings: ReflectionSettings,
        *,
        consumer: Client,
        provider: Client,
        recorder: EventRecorder,
        registry: prometheus_client.CollectorRegistry | None = None,
        concurrency: int = 64,
    ) -> None:
        self._settings = settings
        timing = Timing(resync=settings.resync)
        self._ledger = Ledger()
        self.remote_pods_changed: list[Callable[[], None]] = []
        """Called after any change of a remote pod."""
        self.pods: Reflector[Object] = Reflector(
            consumer,
            PODS,
            decode=Object,
            field_selector=f"spec.nodeName={settings.node_name}",
            indexes={"namespace": lambda pod: (pod.metadata.namespace,)},
            on_change=self._origin_changed,
            registry=registry,
            timing=timing,
        )
        self.remotes: Remotes = ShadowRemotes(provider) if settings.managed else DirectRemotes(provider)
        self.caches = RemoteCaches(
            provider,
            remotes=self.remotes.resource,
            node_selector=ownership.node_selector(settings.node_name),
            consumer_selector=ownership.consumer_selector(settings.consumer_id),
            listeners=CacheListeners(
                pod=self._pod_changed,
                remote=self._remote_changed,
                config_map=lambda ns, change: self._copy_changed(Kind.CONFIG_MAP, ns, change),
                secret=self._secret_changed,
                event=self._event_changed,
                synced=self._namespace_synced,
            ),
            registry=registry,
            timing=timing,
        )
        self._maps = (
            MapNamespaces(
                provider,
                settings.mapping,
                consumer_id=settings.consumer_id,
                changed=self._map_changed,
                registry=registry,
                timing=timing,
            )
            if settings.managed
            else None
        )
        self.namespace_answered: list[Callable[[str], None]] = []
        """Told the consumer's namespace when a managed provider says something else of it."""
        self._namespaces: MappedNamespaces = self._maps or Namespaces(
            provider, settings.mapping, consumer_id=settings.consumer_id, roles=settings.roles
        )
        self.references = References(
            consumer,
            provider,
            self.caches,
            consumer_id=settings.consumer_id,
            node_name=settings.node_name,
            remote_name=self._remote_name,
            needed=self._needed,
            wake=self._wake,
            namespace_lost=self._namespaces.forget,
            may_leave=settings.may_leave,
            linger=settings.reference_linger,
            registry=registry,
        )
        store = self.pods.store
        self._contexts = Contexts(settings)
        reports = Reports(consumer, recorder, self._ledger, now=self._contexts.now)
        self._mass_end = MassEnd(
            origin=self._origin_of,
            total=store.__len__,
            tell=lambda text: recorder.event(
                ObjectReference(api_version="v1", kind="Node", name=settings.node_name, uid=settings.node_name),
                type="Warning",
                reason="ProviderEndedPods",
                message=text,
            ),
        )
        self._events = EventMirror(store, self.caches, reports, registry=registry)
        self.pending = PendingLimit(
            consumer, store, reports, remote=self.remote, timeout=settings.pending_timeout, registry=registry
        )
        self._tokens = Tokens(
            consumer,
            provider,
            store,
            consumer_id=settings.consumer_id,
            node_name=settings.node_name,
            stored=self._stored_secret,
            permitted=settings.gives_tokens,
            registry=registry,
        )
        self._cleanup = NamespaceCleanup(
            provider,
            self._namespaces,
            settings.mapping,
            self.caches,
            remotes=self.remotes.resource,
            consumer_id=settings.consumer_id,
            linger=settings.namespace_linger,
            in_use=lambda namespace: store.any_by_index("namespace", namespace),
            removed=self.references.namespace_removed,
            registry=registry,
        )
        endings = Endings(
            consumer=consumer,
            remotes=self.remotes,
            pods=store,
            caches=self.caches,
            references=self.references,
            mapping=settings.mapping,
            reports=reports,
            ledger=self._ledger,
            node_name=settings.node_name,
            pod_gone=self._pod_gone,
            now=self._contexts.now,
        )
        parts = Parts(
            remotes=self.remotes,
            pods=store,
            caches=self.caches,
            references=self.references,
            namespaces=self._namespaces,
            contexts=self._contexts,
            reports=reports,
            ledger=self._ledger,
            changer=Changer(self.remotes, self._ledger, reports),
            endings=endings,
            tokens=self._tokens,
            claims=Claims(consumer, provider, consumer_id=settings.consumer_id, classes=settings.storage_classes),
            gives_tokens=settings.gives_tokens,
        )
        self.controller: Controller[Key] = Controller(
            "pods",
            PodReconciler(parts).reconcile,
            queue=WorkQueue(flow=lambda key: key[0]),  # a namespace's burst does not hold up the others
            concurrency=concurrency,
            registry=registry,
        )

    # -- tasks

    def cache_tasks(self) -> Iterable[tuple[str, Callable[[], Awaitable[None]]]]:
        """What must run before decisions can be made."""
        return (
            ("consumer pods", self.pods.run),
            ("provider caches", self.caches.run),
            ("known namespaces", self._known),
            *(self._maps.cache_tasks() if self._maps is not None else ()),
        )

    async def synced(self) -> None:
        """Wait until the consumer's pods are listed. Provider namespaces sync as they are needed."""
        await self.pods.synced.wait()

    def worker_tasks(self) -> Iterable[tuple[str, Callable[[], Awaitable[None]]]]:
        """What decides and writes."""
        return (
            ("pods", self.controller.run),
            ("references", self.references.run),
            ("events", self._events.run),
            ("tokens", self._tokens.run),
            ("namespaces", self._cleanup.run),
            ("pending", self.pending.controller.run),
        )

    async def _known(self) -> None:
        """Watch the namespaces of an earlier run too: their pods may have lost their origins meanwhile."""
        for namespace in self._settings.mapping.known():
            self.caches.ensure(namespace)
        delay = 1.0
        while self._settings.mapping.managed:
            try:
                found = await self._namespaces.existing()
            except Exception as error:  # noqa: BLE001 - whatever it is: pods go on, this is tried again
                log.warning("provider namespaces not listed", error=str(error))
                await asyncio.sleep(delay)
                delay = min(delay * 2, 60.0)
                continue
            for remote, origin in found.items():
                self.caches.ensure(remote)
                self._cleanup.maybe_unused(origin)
            break
        await asyncio.Event().wait()

    # -- what others ask

    def remote(self, key: Key) -> Object | None:
        """The provider's pod for a consumer's key, if there is one; its origin may be an older pod of that name."""
        try:
            namespace = self._settings.mapping.remote(key[0])
        except NamespaceNotMappedError:
            return None
        caches = self.caches.get(namespace)
        if caches is None:
            return None
        remote = self._ledger.remote(key, caches.remotes.store, (namespace, key[1]))
        return self.remotes.running(remote, caches.pods.store) if remote is not None else None

    def remote_pods(self, namespace: str) -> Iterable[Object]:
        """Our pods in a provider namespace."""
        caches = self.caches.get(namespace)
        return caches.pods.store.values() if caches is not None else ()

    @property
    def remote_selector(self) -> str:
        """Label selector of all remote pods of this virtual node."""
        return ownership.node_selector(self._settings.node_name)

    @property
    def namespaces(self) -> MappedNamespaces:
        """The provider's namespaces."""
        return self._namespaces

    # -- what wakes what

    def reconsider(self) -> None:
        """What statuses are made of besides the provider's has changed, such as the translation of addresses."""
        for pod in self.pods.store.values():
            self.controller.queue.add(pod.metadata.key, priority=Priority.INITIAL)

    def namespace_turned(self, namespace: str) -> None:
        """Whether new pods of a consumer namespace may go to the provider has changed: look at those it has here."""
        for pod in self.pods.store.by_index("namespace", namespace):
            self.controller.queue.add(pod.metadata.key)

    def _origin_changed(self, change: Change[Object]) -> None:
        priority = Priority.INITIAL if change.initial else Priority.FRESH
        self.controller.queue.add(change.key, priority=priority)

    def _map_changed(self, namespace: str) -> None:
        self.namespace_turned(namespace)
        for listener in self.namespace_answered:
            listener(namespace)

    def _remote_changed(self, _namespace: str, change: Change[Object]) -> None:
        """A remote that is no pod: what was asked for, or what the provider says to it."""
        shown = change.new or change.old
        key = ownership.origin_key(shown.metadata) if shown is not None else None
        if key is not None:
            self.controller.queue.add(key, priority=Priority.INITIAL if change.initial else Priority.FRESH)

    def _pod_changed(self, _namespace: str, change: Change[Object]) -> None:
        shown = change.new or change.old
        key = ownership.origin_key(shown.metadata) if shown is not None else None
        for listener in self.remote_pods_changed:
            listener()
        self._mass_end.remote_changed(change)
        if key is None:
            return
        self.pending.remote_changed(change.new, key)
        if change.new is None:
            self._ledger[key].departed = change.old
            self.controller.queue.add(key)
            return
        priority = Priority.INITIAL if change.initial else Priority.FRESH
        self.controller.queue.add(key, delay=START_DELAY if starting(change.new) else 0.0, priority=priority)

    def _origin_of(self, remote: Object) -> Object | None:
        """The consumer's pod that a remote pod is for, if that very pod is there."""
        key = ownership.origin_key(remote.metadata)
        origin = self.pods.store.get(key) if key is not None else None
        same = origin is not None and origin.metadata.uid == ownership.origin_uid(remote.metadata)
        return origin if same else None

    def _copy_changed(self, kind: Kind, namespace: str, change: Change[ConfigMap] | Change[Secret]) -> None:
        self.references.remote_changed(kind, namespace, change)

    def _secret_changed(self, namespace: str, change: Change[Secret]) -> None:
        shown = change.new or change.old
        if shown is not None and TOKEN_FOR_LABEL in shown.metadata.labels:
            self._tokens.stored_changed(namespace, change)
        else:
            self._copy_changed(Kind.SECRET, namespace, change)

    def _stored_secret(self, key: Key) -> Secret | None:
        caches = self.caches.get(key[0])
        return caches.secrets.store.get(key) if caches is not None else None

    def _event_changed(self, namespace: str, change: Change[Event]) -> None:
        self._events.remote_changed(namespace, change)

    def _wake(self, key: Key) -> None:
        self.controller.queue.add(key)

    def _namespace_synced(self, namespace: str) -> None:
        """Decisions about this provider namespace are possible now: look at all its pods."""
        for pod in self.pods.store.values():
            self.controller.queue.add((pod.metadata.namespace, pod.metadata.name), priority=Priority.INITIAL)
        caches = self.caches.get(namespace)
        for remote in caches.remotes.store.values() if caches is not None else ():
            key = ownership.origin_key(remote.metadata)
            if key is not None:
                self.controller.queue.add(key, priority=Priority.INITIAL)

    def _pod_gone(self, key: Key) -> None:
        self._tokens.pod_gone(key)
        self._cleanup.maybe_unused(key[0])

    # -- references

    def _remote_name(self, ref: RefKey) -> str:
        if ref.kind is Kind.CONFIG_MAP and ref.name == names.ROOT_CA:
            return names.root_ca_name(self._settings.consumer_id)
        return ref.name

    def _needed(self, ref: RefKey) -> bool:
        """Whether any pod of this node names the object: read from the pods, not from what was tracked so far."""
        for pod in self.pods.store.by_index("namespace", ref.namespace):
            found = references(decode_pod(pod), api_access=self._has_tokens(pod))
            if ref in reference_keys(ref.namespace, found):
                return True
        return False

    def _has_tokens(self, pod: Object) -> bool:
        """Whether a pod has tokens at the provider, or may be given some."""
        if self._settings.api_server is None:
            return False
        meta = pod.metadata
        remote = self.remote(meta.key)
        if remote is not None and mounts(decode_pod(remote), names.token_secret_name(meta.name, meta.uid)):
            return True
        return self._settings.gives_tokens(meta.namespace)
