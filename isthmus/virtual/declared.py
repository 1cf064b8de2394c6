"""Namespaces of a virtual kubelet as NamespaceOffloadings want them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import prometheus_client

from api.offloading.namespaces import NAME
from isthmus import kinds
from isthmus.options import Options, OptionsError
from kube.client import Client
from kube.election import LeaderElector
from kube.reflector import Timing
from kube.supervisor import Stage, Supervisor
from reflection.kinds.reflection import Reflection
from reflection.offloading import Offloading
from reflection.scheduling.declared import Declared
from reflection.scheduling.leadership import Alone, Leadership
from reflection.scheduling.provider import Entry, ProviderNamespaces


def declared_of(
    options: Options, *, consumer: Client, registry: prometheus_client.CollectorRegistry
) -> Declared | None:
    """What NamespaceOffloadings say; None unless asked for. Raises `OptionsError`."""
    if not options.namespaces_from_objects:
        return None
    if options.namespace:
        raise OptionsError(
            "--namespace: not with --namespaces-from-objects, which takes them from NamespaceOffloadings"
        )
    return Declared(
        consumer,
        provider=provider_name(options),
        consumer_id=options.consumer_id,
        registry=registry,
        timing=Timing(resync=options.resync),
    )


def gives_tokens(declared: Declared | None) -> Callable[[str], bool]:
    """Whether a namespace opts in. Without NamespaceOffloadings none can: there `--api-access` alone decides."""

    def gives(namespace: str) -> bool:
        if declared is None:
            return True
        found = declared.reflector.store.get((namespace, NAME))
        return found is not None and found.spec.service_account_tokens

    return gives


def provider_name(options: Options) -> str:
    """The provider that NamespaceOffloadings know this virtual node by."""
    return options.provider or options.node_name


def add_declared(
    supervisor: Supervisor,
    options: Options,
    declared: Declared,
    offloading: Offloading,
    reflected: Reflection | None,
    *,
    consumer: Client,
    provider: Client,
    registry: prometheus_client.CollectorRegistry,
) -> None:
    """Namespaces as NamespaceOffloadings want them; no pod is decided about before those are known.

    Of several processes the one that reflects kinds also makes and removes namespaces: it surely reaches the provider,
    and one that is cut off does not tell the contrary of what another tells.
    """
    name = provider_name(options)
    leadership: Leadership = reflected.owner if reflected is not None else Alone()
    elector: LeaderElector | None = None
    if options.election_namespace:
        elector = LeaderElector(
            consumer,
            namespace=options.election_namespace,
            name=f"isthmus-namespaces-{name}",
            identity=options.node_name,
            registry=registry,
        )
        supervisor.add("namespace election", elector.run, stage=Stage.CLIENTS)

    def tell(found: Iterable[Entry]) -> None:
        if reflected is not None:
            reflected.set_namespaces(kinds.entries(found, declared))

    namespaces = ProviderNamespaces(
        consumer=consumer,
        provider=provider,
        provider_id=name,
        consumer_id=options.consumer_id,
        objects=declared,
        namespaces=offloading.namespaces,
        leadership=elector or leadership,
        entries_changed=tell,
        is_empty=reflected.is_empty if reflected is not None else lambda _remote: True,
        # Only the owner of kinds knows; with an election of its own another may write the status.
        problems=kinds.problems(reflected if elector is None else None),
        remotes=offloading.remotes.resource,
        registry=registry,
    )

    def ended(remote: str) -> None:
        """Nothing of the provider's namespace is left: in each of its virtual kubelets, whichever removed it."""
        offloading.namespaces.forget(remote)
        offloading.caches.drop(remote)
        offloading.references.namespace_removed(remote)

    if reflected is not None:
        reflected.problems_changed.append(namespaces.problems_changed)
    offloading.namespace_answered.append(namespaces.look)
    declared.turned.append(offloading.namespace_turned)
    declared.listeners.append(offloading.references.reconsider)
    declared.ended.append(ended)
    supervisor.add("namespace offloadings", declared.reflector.run, stage=Stage.CACHES)
    supervisor.add("declared namespaces", namespaces.run, stage=Stage.WORKERS)
