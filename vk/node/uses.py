"""What pods take of nodes: a watch of all running pods of which only that is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec
from prometheus_client import CollectorRegistry

from kube.client import Client
from kube.objects import Metadata, Object
from kube.podresources import Amounts, pod_amounts
from kube.quantities import Quantity, QuantityError
from kube.reflector import Reflector
from kube.resources import PODS
from kube.store import Change, Key

_RUNNING = "status.phase!=Succeeded,status.phase!=Failed"


@dataclass(frozen=True, slots=True)
class Use:
    """What one pod takes, where, and whose it is: the value of a label, empty if it has none."""

    node: str
    amounts: Amounts
    owner: str = ""


class Uses:
    """Run `pods` for ever. `owner_label` is the key of the label that tells whose a pod is."""

    def __init__(
        self,
        client: Client,
        *,
        owner_label: str,
        on_change: Callable[[], object] = lambda: None,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._owner_label = owner_label
        self._on_change = on_change
        self._uses: dict[Key, Use] = {}
        self.pods: Reflector[Object] = Reflector(
            client,
            PODS,
            decode=Object,
            field_selector=_RUNNING,
            kept=_bare,
            on_change=self._observe,
            registry=registry,
        )

    def values(self) -> Iterable[Use]:
        """What is known now."""
        return self._uses.values()

    def _observe(self, change: Change[Object]) -> None:
        self._uses.pop(change.key, None)
        if change.new is not None and (use := use_of(change.new, owner_label=self._owner_label)) is not None:
            self._uses[change.key] = use
        self._on_change()


def use_of(pod: Object, *, owner_label: str) -> Use | None:
    """What a pod takes; None before it has a node, or if what it asks for cannot be read. Pure."""
    try:
        spec = msgspec.json.decode(pod.spec)
        node, amounts = spec.get("nodeName"), pod_amounts(spec, kind="requests")
    except (msgspec.DecodeError, QuantityError, AttributeError, TypeError):
        return None
    amounts["pods"] = Quantity.of(1)
    return Use(node, amounts, pod.metadata.labels.get(owner_label, "")) if node else None


def _bare(pod: Object) -> Object:
    """Only what tells one version of a pod from another: what it uses is counted as it comes."""
    full = pod.metadata
    return Object(
        metadata=Metadata(
            name=full.name, namespace=full.namespace, uid=full.uid, resource_version=full.resource_version
        )
    )
