"""What `isthmus virtual-kubelet --reflect-kinds` adds: Services and the like of whole namespaces."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import prometheus_client

from api.offloading.namespaces import NAME, ObjectProblem
from isthmus.options import Options, OptionsError, pairs
from kube.client import Client
from kube.events import EventRecorder, clean
from kube.objects import Metadata
from kube.supervisor import Stage, Supervisor
from reflection.kinds import configuration
from reflection.kinds.configuration import ConfigurationError
from reflection.kinds.model import AddressTranslation, Kind
from reflection.kinds.nodes import ProviderNodes
from reflection.kinds.offloaded import Offloaded
from reflection.kinds.owner import Alone, Elected, Ownership
from reflection.kinds.published import PublishedNames
from reflection.kinds.reflection import Reflection
from reflection.kinds.selection import RuleError, Rules, parse_rules, selected
from reflection.kinds.settings import KindSettings
from reflection.scheduling.declared import Declared
from reflection.scheduling.plan import FOREIGN_OBJECT
from reflection.scheduling.provider import Entry

DEFAULT = "default"
"""Instead of a file: what the table of kinds says."""


def add(
    supervisor: Supervisor,
    options: Options,
    declared: Declared | None,
    *,
    consumer: Client,
    provider: Client,
    recorder: EventRecorder,
    registry: prometheus_client.CollectorRegistry,
    translation: AddressTranslation | None = None,
) -> Reflection | None:
    """Add the reflection of kinds, if it is asked for. Raises `OptionsError`."""
    if not options.reflect_kinds:
        return None
    fixed = pairs(options.namespace, option="namespace")
    if declared is None and not fixed:
        raise OptionsError("--reflect-kinds: needs --namespaces-from-objects, or --namespace, to say which namespaces")
    name = options.provider or options.node_name
    settings, kinds = _configured(options, provider=name)
    owner = _owner(options, provider, registry=registry)
    made = Reflection(
        settings,
        consumer=consumer,
        provider=provider,
        recorder=recorder,
        owner=owner,
        kinds=kinds,
        translation=translation,
        registry=registry,
    )
    if options.provider:
        nodes = ProviderNodes(consumer, provider=name, tell=made.set_nodes, registry=registry)
        supervisor.add("provider's nodes", nodes.run, stage=Stage.CACHES)
    else:
        made.set_nodes([options.node_name])
    if options.kinds_election_namespace:
        published = PublishedNames(
            provider, namespace=options.kinds_election_namespace, consumer_id=options.consumer_id, owner=owner
        )
        made.names_changed.append(published.tell)
        supervisor.add("names of namespaces", published.run, stage=Stage.WORKERS)
    made.set_namespaces(Offloaded(namespace, remote) for namespace, remote in fixed.items())
    for task, run in made.cache_tasks():
        supervisor.add(task, run, stage=Stage.CACHES)
    for task, run in made.worker_tasks():
        supervisor.add(task, run, stage=Stage.WORKERS)
    return made


def permission(options: Options, declared: Declared | None) -> Callable[[str, Metadata], bool]:
    """Whether rules and its labels let a ConfigMap or Secret go because a pod names it. Raises `OptionsError`."""
    settings = None
    if options.reflect_kinds:
        settings, _ = _configured(options, provider=options.provider or options.node_name)

    def permits(resource: str, metadata: Metadata) -> bool:
        levels = [settings.rules] if settings is not None else []
        if declared is not None:
            levels.append(_rules(declared, metadata.namespace))
        any_of = settings.node_rules if settings is not None else ()
        return selected(resource, metadata, levels, any_of=any_of, opt_in=False)

    return permits


def entries(found: Iterable[Entry], declared: Declared) -> list[Offloaded]:
    """Namespaces as NamespaceOffloadings want them, with the rules that those state.

    Of two that claim one provider namespace the first has it: the other was refused when it was to be made.
    """
    made: dict[str, Offloaded] = {}
    for entry in found:
        rules = (_rules(declared, entry.namespace),)
        made.setdefault(entry.remote, Offloaded(entry.namespace, entry.remote, rules=rules, leaving=entry.leaving))
    return list(made.values())


def problems(reflected: Reflection | None) -> Callable[[str], list[ObjectProblem]]:
    """What is to tell of the objects of a consumer namespace, for its NamespaceOffloading; strangers' names first."""

    def told(namespace: str) -> list[ObjectProblem]:
        found = reflected.problems(namespace) if reflected is not None else ()
        made = [
            ObjectProblem(resource=one.resource, name=one.name, reason=one.reason, message=clean(one.message))
            for one in found
        ]
        return sorted(made, key=lambda one: one.reason != FOREIGN_OBJECT)

    return told


def _rules(declared: Declared, namespace: str) -> Rules:
    offloading = declared.reflector.store.get((namespace, NAME))
    if offloading is None:
        return {}
    try:
        return parse_rules(msgspec.to_builtins(offloading.spec.reflection))
    except RuleError:
        return {}  # the schema admits none such


def _configured(options: Options, *, provider: str) -> tuple[KindSettings, tuple[Kind, ...]]:
    common = {"consumer_id": options.consumer_id, "provider": provider}
    try:
        if options.reflect_kinds == DEFAULT:
            return configuration.parse(None, **common, resync=options.resync)
        return configuration.load(Path(options.reflect_kinds), **common, resync=options.resync)
    except ConfigurationError as error:
        raise OptionsError(f"--reflect-kinds: {error}") from error


def _owner(options: Options, provider: Client, *, registry: prometheus_client.CollectorRegistry) -> Ownership:
    if not options.kinds_election_namespace:
        return Alone()
    return Elected(
        provider,
        namespace=options.kinds_election_namespace,
        consumer_id=options.consumer_id,
        identity=f"{options.node_name}/{socket.gethostname()}/{os.getpid()}",
        registry=registry,
    )
