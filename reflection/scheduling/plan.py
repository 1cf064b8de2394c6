"""What a NamespaceOffloading comes to: which providers, whether its pods are prepared, and what to say of it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from api.meta import Condition
from api.offloading.namespaces import NamespaceOffloading, ProviderStatus
from api.offloading.virtual_node import VirtualNode
from kube.objects import Metadata
from reflection.scheduling import names, selectors
from reflection.scheduling.declared import RemoteName
from reflection.scheduling.registration import RESERVED
from reflection.scheduling.selectors import SelectorError

READY: Final = "Ready"
SCHEDULING: Final = "SchedulingEnabled"
PREPARED: Final = "PodsPrepared"
REACHABLE: Final = "ProvidersReachable"
REFLECTED: Final = "ObjectsReflected"
CONDITIONS: Final = frozenset({READY, SCHEDULING, PREPARED, REACHABLE, REFLECTED})
"""Types that the controller writes."""
FOREIGN_OBJECT: Final = "ForeignObject"
"""Reason of an object whose name a stranger has at the provider."""
_SHOWN: Final = 5
_OBJECTS: Final = 3
_SHORT: Final = 200
_MESSAGE_LIMIT: Final = 1024


@dataclass(frozen=True, slots=True)
class Problem:
    """Why nothing is offloaded."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What else there is in the cluster."""

    own_namespace: str
    names: RemoteName
    nodes: Mapping[str, Mapping[str, str]]
    """Labels of our virtual nodes, by name."""
    virtual_nodes: Sequence[VirtualNode] = ()
    others: Sequence[NamespaceOffloading] = ()
    """All NamespaceOffloadings."""

    def provider_of(self, node: str) -> str:
        """The provider behind a virtual node: as its VirtualNode says, else its label, else the node for itself."""
        declared = next((one.spec.provider for one in self.virtual_nodes if one.node == node), "")
        return declared or self.nodes[node].get(names.PROVIDER_LABEL, "") or node

    def providers(self) -> set[str]:
        """All providers that have a virtual node, or are to have one."""
        return {self.provider_of(node) for node in self.nodes} | {one.spec.provider for one in self.virtual_nodes}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be the case."""

    providers: Mapping[str, str] = field(default_factory=dict)
    """Provider -> the namespace's name there."""
    scheduling: bool = False
    """Whether new pods are to be prepared by the webhook."""
    problem: Problem | None = None


def plan(offloading: NamespaceOffloading, around: Surroundings) -> Plan:
    """What an object that is not being deleted comes to."""
    problem = _problem(offloading, around)
    if problem is not None:
        return Plan(problem=problem)
    wanted = selectors.of(offloading.spec.virtual_node_selector)
    remote = around.names.declared(offloading)
    selected = (node for node, labels in around.nodes.items() if selectors.accepts(wanted, labels))
    providers = {around.provider_of(node): remote for node in sorted(selected)}
    return Plan(providers=providers, scheduling=offloading.spec.pod_strategy != "Local")


def _problem(offloading: NamespaceOffloading, around: Surroundings) -> Problem | None:
    namespace = offloading.metadata.namespace
    if namespace in (*RESERVED, around.own_namespace):
        return Problem("ReservedNamespace", f"namespace {namespace} belongs to the cluster and is never offloaded")
    try:
        selectors.of(offloading.spec.virtual_node_selector)
    except SelectorError as error:
        return Problem("InvalidSelector", f"spec.virtualNodeSelector: {error}")
    remote = around.names.declared(offloading)
    for other in around.others:
        taken = around.names.declared(other) == remote and _age(other.metadata) < _age(offloading.metadata)
        if taken and other.metadata.namespace != namespace:
            text = f"namespace {other.metadata.namespace} is called {remote} at the provider already: choose another"
            return Problem("NameConflict", f"{text} namespaceMapping or remoteNamespace")
    return None


def _age(metadata: Metadata) -> tuple[str, str]:
    return metadata.creation_timestamp, metadata.namespace


def ready(made: Plan, entries: Iterable[ProviderStatus], *, lost: Collection[str] = ()) -> Condition:
    """Whether the namespace is offloaded wherever it is to be. Of `lost` providers no virtual node knows anything."""
    if made.problem is not None:
        return _condition(READY, False, made.problem.reason, made.problem.message)
    if not made.providers:
        text = "no virtual node is selected: compare spec.virtualNodeSelector with `kubectl get nodes --show-labels`"
        return _condition(READY, False, "NoVirtualNode", text)
    said = {entry.provider: entry for entry in entries}
    missing = []
    for provider in made.providers:
        entry = said.get(provider)
        if provider in lost:
            missing.append(f"{provider}: Unreachable: its virtual nodes cannot reach it")
        elif entry is None or not entry.reason:
            missing.append(f"{provider}: its virtual kubelet has not answered yet")
        elif not entry.ready:
            missing.append(f"{provider}: {entry.reason}: {entry.message}")
    if missing:
        return _condition(READY, False, "ProvidersNotReady", "; ".join(missing))
    return _condition(READY, True, "Offloaded", f"the namespace is ready at {', '.join(sorted(made.providers))}")


def scheduling(made: Plan, strategy: str) -> Condition:
    """Whether new pods get what lets them onto virtual nodes."""
    if made.scheduling:
        return _condition(SCHEDULING, True, strategy, f"new pods are prepared for strategy {strategy}")
    if made.problem is not None:
        return _condition(SCHEDULING, False, made.problem.reason, "new pods stay as they are, on local nodes")
    return _condition(SCHEDULING, False, strategy, "new pods stay as they are; a RuntimeClass may still offload them")


def prepared(missed: Sequence[str]) -> Condition:
    """Whether all pods that were made under the strategy were prepared for it."""
    if not missed:
        return _condition(PREPARED, True, "AllPrepared", "no pod was made without the webhook")
    shown = ", ".join(sorted(missed)[:_SHOWN]) + (", ..." if len(missed) > _SHOWN else "")
    many = f"{len(missed)} pods were" if len(missed) > 1 else "1 pod was"
    text = f"{many} made while the webhook did not answer, and can only run on local nodes: {shown}"
    return _condition(PREPARED, False, "WebhookMissed", f"{text}; delete them, and their owners make others")


def reflected(made: Plan, entries: Iterable[ProviderStatus]) -> Condition:
    """Whether no object of the namespace is held up on its way to a provider, and which are, a stranger's first."""
    found = [(entry, one) for entry in entries if entry.provider in made.providers for one in entry.problems]
    if not found:
        return _condition(REFLECTED, True, "NoneHeldUp", "no object is held up on its way to a provider")
    found.sort(key=lambda pair: pair[1].reason != FOREIGN_OBJECT)
    texts = [
        f"{entry.provider}: {' '.join(filter(None, (one.resource, one.name)))}: {one.reason}: {one.message[:_SHORT]}"
        for entry, one in found[:_OBJECTS]
    ]
    left = sum(entry.problem_count for entry in entries if entry.provider in made.providers) - len(texts)
    more = [f"and {left} more (status.providers, and events of the objects)"] if left > 0 else []
    return _condition(REFLECTED, False, found[0][1].reason, "; ".join([*texts, *more]))


def removing(left: Sequence[str], entries: Iterable[ProviderStatus]) -> Condition:
    """How far the removal is. `left` tells of pods on virtual nodes."""
    waits = [*left, *(f"{one.provider}: {one.reason or 'Waiting'}: {one.message}" for one in entries)]
    return _condition(READY, False, "Removing", "; ".join(waits) or "nothing is left")


def _condition(kind: str, status: bool, reason: str, message: str) -> Condition:
    text = message if len(message) <= _MESSAGE_LIMIT else message[: _MESSAGE_LIMIT - 3] + "..."
    return Condition(type=kind, status="True" if status else "False", reason=reason, message=text)
