"""The group's kinds as resources of the API, and what their CustomResourceDefinitions say besides the types."""

from __future__ import annotations

from api.offloading.common import GROUP, VERSION
from api.offloading.namespaces import NamespaceMap, NamespaceOffloading
from api.offloading.shadow_pod import ShadowPod
from api.offloading.virtual_node import VirtualNode
from kube.crd import Column, Definition
from kube.resources import Resource

VIRTUAL_NODES = Resource(GROUP, VERSION, "virtualnodes", "VirtualNode", namespaced=False)
NAMESPACE_OFFLOADINGS = Resource(GROUP, VERSION, "namespaceoffloadings", "NamespaceOffloading")
NAMESPACE_MAPS = Resource(GROUP, VERSION, "namespacemaps", "NamespaceMap")
SHADOW_PODS = Resource(GROUP, VERSION, "shadowpods", "ShadowPod")

_CATEGORIES = ("isthmus",)


def _condition(kind: str, field: str = "status") -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


_READY = Column("Ready", _condition("Ready"))
_REASON = Column("Reason", _condition("Ready", "reason"))
_MESSAGE = Column("Message", _condition("Ready", "message"), priority=1)
_AGE = Column("Age", ".metadata.creationTimestamp", type="date")

DEFINITIONS = (
    Definition(
        VIRTUAL_NODES,
        VirtualNode,
        short_names=("vn",),
        categories=_CATEGORIES,
        notes=(
            "The manager runs one virtual kubelet for each; several may stand for parts of one "
            "provider. Removing it cordons the Node, evicts its pods, and leaves nothing at the "
            "provider."
        ),
        columns=(
            Column("Provider", ".spec.provider"),
            Column("Node", ".status.nodeName"),
            Column("Mode", ".spec.mode"),
            _READY,
            _REASON,
            Column("Pods", ".status.pods", type="integer"),
            Column("CPU", ".status.allocatable.cpu", priority=1),
            Column("Memory", ".status.allocatable.memory", priority=1),
            _MESSAGE,
            _AGE,
        ),
    ),
    Definition(
        NAMESPACE_OFFLOADINGS,
        NamespaceOffloading,
        short_names=("nso",),
        categories=_CATEGORIES,
        notes=(
            "There is at most one in a namespace, and it is named offloading. A change of strategy "
            "counts for new pods only. Removing it removes all that was made for the namespace at the "
            "providers."
        ),
        columns=(
            Column("Strategy", ".spec.podStrategy"),
            Column("Mapping", ".spec.namespaceMapping"),
            _READY,
            _REASON,
            _MESSAGE,
            _AGE,
        ),
    ),
    Definition(
        NAMESPACE_MAPS,
        NamespaceMap,
        short_names=("nm",),
        categories=_CATEGORIES,
        notes=(
            "The virtual kubelet writes it into the namespace that the provider keeps for the consumer;"
            " nobody else needs to."
        ),
        columns=(
            Column("Mapping", ".spec.namespaceMapping"),
            Column("Namespace", ".status.namespace"),
            _READY,
            _REASON,
            _MESSAGE,
            _AGE,
        ),
    ),
    Definition(
        SHADOW_PODS,
        ShadowPod,
        short_names=("sp",),
        categories=_CATEGORIES,
        notes=(
            "The virtual kubelet writes it; the provider decides what becomes of it, makes the pod anew"
            " when it vanishes, and never runs again one that ended."
        ),
        columns=(
            Column("Accepted", _condition("Accepted")),
            Column("Phase", ".status.phase"),
            Column("Reason", ".status.reason"),
            Column("Message", ".status.message", priority=1),
            _AGE,
        ),
    ),
)
