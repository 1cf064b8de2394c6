"""What a pod needs to be scheduled as its namespace's strategy says, as a JSON patch. Pure.

A pod stays off virtual nodes by their taint; Local needs nothing more. For the other strategies the pod tolerates the
taint, and its required node affinity is narrowed to the nodes of the strategy. Required terms are alternatives, and
what is in one term must all hold, so "what the pod asks AND one of our alternatives" is the product of the two lists.
An empty term matches no node (k8s.io/component-helpers/scheduling/corev1/nodeaffinity) and must stay empty.

Where pods can only go to virtual nodes, they are also let outlast those being unready (`tolerance`). Not under
LocalAndRemote: on an ordinary node that dies such a pod would wait for ever; the controller does it after binding.

Applying it twice is the same as once, for API servers may call a webhook again after others (reinvocationPolicy).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from api.offloading.namespaces import PodStrategy
from reflection.forge.names import MIRROR_ANNOTATION
from reflection.scheduling import names, tolerance
from reflection.scheduling.selectors import Requirement, Requirements

Json = Mapping[str, Any]
Operation = dict[str, Any]
"""One operation of RFC 6902."""

_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_VIRTUAL: Final = Requirement(names.NODE_MARK, "Exists")
_NOT_VIRTUAL: Final = Requirement(names.NODE_MARK, "DoesNotExist")


@dataclass(frozen=True, slots=True)
class Strategy:
    """Where a namespace's pods may run; `selector` narrows the virtual nodes."""

    pods: PodStrategy
    selector: Requirements = ()

    def alternatives(self) -> tuple[Requirements, ...]:
        """Node labels have to satisfy one of these; none at all means that every node will do."""
        remote = (_VIRTUAL, *self.selector)
        if self.pods == "Remote":
            return (remote,)
        if self.pods == "LocalAndRemote" and self.selector:
            return ((_NOT_VIRTUAL,), remote)
        return ()


def exemption(pod: Json) -> str:
    """Why a pod is none of ours to prepare; empty if it is."""
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    if "true" in (labels.get(names.OPT_OUT), annotations.get(names.OPT_OUT)):
        return "the pod opted out"
    if spec.get("nodeName"):
        return "the pod names its node"
    if MIRROR_ANNOTATION in annotations:
        return "a static pod's mirror"
    owners = metadata.get("ownerReferences") or ()
    if any(owner.get("kind") == "DaemonSet" and owner.get("controller") for owner in owners):
        return "a DaemonSet's pod"
    return ""


def patch(pod: Json, strategy: Strategy) -> list[Operation]:
    """What to change in a pod that is being created; nothing where it is exempt, Local, or prepared already."""
    if strategy.pods == "Local" or exemption(pod):
        return []
    spec = pod.get("spec") or {}
    return [
        *mark(pod, strategy.pods),
        *_tolerate(spec.get("tolerations"), lasting=strategy.pods == "Remote"),
        *_narrow(spec.get("affinity"), strategy.alternatives()),
    ]


def mark(pod: Json, value: str) -> list[Operation]:
    """Write on the pod that it was looked at, so that those that were not can be told."""
    annotations = (pod.get("metadata") or {}).get("annotations")
    if not annotations:
        return [_add("/metadata/annotations", {names.STRATEGY_MARK: value})]
    if annotations.get(names.STRATEGY_MARK) == value:
        return []
    return [_add(f"/metadata/annotations/{_escape(names.STRATEGY_MARK)}", value)]


def _tolerate(tolerations: Sequence[Json] | None, *, lasting: bool) -> list[Operation]:
    """Tolerate the taint of virtual nodes, and outages of any length if `lasting`; change the least that does it."""
    present = list(tolerations or ())
    wanted = (tolerance.loosened(present) if lasting else None) or present
    if names.TOLERATION not in wanted:
        wanted = [*wanted, names.TOLERATION]
    if not present:
        return [_add("/spec/tolerations", wanted)]
    changed = [at for at, one in enumerate(present) if one != wanted[at]]
    loosened = [{"op": "remove", "path": f"/spec/tolerations/{at}/tolerationSeconds"} for at in changed]
    return [*loosened, *(_add("/spec/tolerations/-", one) for one in wanted[len(present) :])]


def _narrow(affinity: Json | None, alternatives: Sequence[Requirements]) -> list[Operation]:
    """Replace the least part of the affinity: whoever else changes the pod may have written beside it."""
    if not alternatives:
        return []
    node = (affinity or {}).get("nodeAffinity")
    required = (node or {}).get(_REQUIRED)
    terms = None if required is None else required.get("nodeSelectorTerms") or []
    wanted = [_term(one) for one in alternatives] if terms is None else _product(terms, alternatives)
    if wanted == terms:
        return []
    value: dict[str, Any] = {"nodeSelectorTerms": wanted}
    path = f"/spec/affinity/nodeAffinity/{_REQUIRED}"
    if not affinity:
        return [_add("/spec/affinity", {"nodeAffinity": {_REQUIRED: value}})]
    if not node:
        return [_add("/spec/affinity/nodeAffinity", {_REQUIRED: value})]
    return [_add(path, value) if terms is None else _add(f"{path}/nodeSelectorTerms", wanted)]


def _product(terms: Sequence[Json], alternatives: Sequence[Requirements]) -> list[Json]:
    made: list[Json] = []
    for term in terms:
        present = term.get("matchExpressions") or []
        additions = [[one.expression() for one in requirements] for requirements in alternatives]
        empty = not present and not term.get("matchFields")
        if empty or any(all(one in present for one in addition) for addition in additions):
            made.append(term)  # matches nothing, or nothing that the strategy does not accept
        else:
            made.extend({**term, "matchExpressions": [*present, *addition]} for addition in additions)
    return made


def _term(requirements: Requirements) -> Json:
    return {"matchExpressions": [one.expression() for one in requirements]}


def _add(path: str, value: Any) -> Operation:
    return {"op": "add", "path": path, "value": value}


def _escape(token: str) -> str:
    """A key as part of a JSON pointer (RFC 6901)."""
    return token.replace("~", "~0").replace("/", "~1")
