"""What a VirtualNode's status says, from the Node and the Deployment. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from api.meta import Condition, with_condition
from api.offloading.virtual_node import Drain, VirtualNode, VirtualNodeStatus
from vk.node import datapath
from vk.node.inventory import LARGEST_ANNOTATION
from vk.node.objects import Node, NodeCondition

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a VirtualNode is not ready, before its Node is even asked."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look at a VirtualNode found."""

    node: Node | None = None
    available: bool = False
    """Whether its process runs and says it is ready."""
    problem: Problem | None = None
    pods: int = 0
    drain: Drain | None = None
    overdue: str | None = None
    """Why the client certificate is not renewed although it should be; empty if all is well, None if not known."""
    orphans: str | None = None
    """What is left at the provider of virtual nodes that are no more; empty for nothing, None if not known."""


def status(virtual: VirtualNode, seen: Seen, *, now: str) -> VirtualNodeStatus:
    """The new status; equal to the old one if nothing has changed. Conditions of other writers stay."""
    generation = virtual.metadata.generation
    conditions = virtual.status.conditions
    said = (_ready(seen), _provider(seen), _access(seen), *_certificate(seen), *_drained(seen), *_orphans(seen))
    for condition in said:
        told = msgspec.structs.replace(condition, observed_generation=generation)
        conditions = with_condition(conditions, told, now=now)
    return VirtualNodeStatus(
        observed_generation=generation,
        conditions=conditions,
        node_name=virtual.node,
        allocatable=dict(seen.node.status.allocatable) if seen.node is not None else {},
        largest_node=_largest(seen.node),
        pods=seen.pods,
        drain=seen.drain,
    )


def _ready(seen: Seen) -> Condition:
    if seen.drain is not None:
        return Condition(type="Ready", status="False", reason="Draining", message="it is being removed")
    if seen.problem is not None:
        return Condition(type="Ready", status="False", reason=seen.problem.reason, message=seen.problem.message)
    shown = _of_node(seen, "Ready")
    if shown is None:
        message = "its process has not made the Node yet" if seen.available else "its process does not run yet"
        return Condition(type="Ready", status="False", reason="Starting", message=message)
    if shown.status == "True" and not seen.available:
        # The Node's own word is older than the process: it may be a restart, which pods do not notice.
        message = "the Node is Ready, its process is being started anew"
        return Condition(type="Ready", status="True", reason="Restarting", message=message)
    return _copied("Ready", shown)


def _provider(seen: Seen) -> Condition:
    shown = _of_node(seen, "Ready")
    if shown is None or shown.status == "Unknown":
        return Condition(type="ProviderReachable", status="Unknown", reason="NotReported", message="nothing known yet")
    if shown.status == "False" and shown.reason == datapath.BROKEN:
        message = "the provider's API server answers; the network to its pods does not carry packets"
        return Condition(type="ProviderReachable", status="True", reason="NetworkBroken", message=message)
    return _copied("ProviderReachable", shown)


def _access(seen: Seen) -> Condition:
    shown = _of_node(seen, "ProviderAccess")
    if shown is None:
        return Condition(type="ProviderAccess", status="Unknown", reason="NotReported", message="nothing known yet")
    return _copied("ProviderAccess", shown)


def _certificate(seen: Seen) -> Sequence[Condition]:
    if seen.overdue is None:
        return ()
    if seen.overdue:
        message = f"the client certificate is good, but cannot be renewed: {seen.overdue}"
        return (Condition(type="ClientCertificate", status="False", reason="RenewalOverdue", message=message),)
    return (Condition(type="ClientCertificate", status="True", reason="Valid", message="it is not due yet"),)


def _drained(seen: Seen) -> Sequence[Condition]:
    if seen.drain is None:
        return ()
    left = seen.drain.remaining
    if left:
        message = f"{left} of {seen.drain.total} pods are left; {len(seen.drain.blocked)} cannot be evicted now"
        return (Condition(type="Drained", status="False", reason="Evicting", message=message),)
    return (Condition(type="Drained", status="True", reason="Empty", message="no pod is left on the Node"),)


def _orphans(seen: Seen) -> Sequence[Condition]:
    if seen.orphans is None:
        return ()
    if seen.orphans:
        return (Condition(type="NoOrphans", status="False", reason="PodsWithoutNode", message=seen.orphans),)
    message = "the provider has no pods of virtual nodes that are no more"
    return (Condition(type="NoOrphans", status="True", reason="NoneFound", message=message),)


def _of_node(seen: Seen, kind: str) -> NodeCondition | None:
    return seen.node.status.condition(kind) if seen.node is not None else None


def _copied(kind: str, shown: NodeCondition) -> Condition:
    known: Mapping[str, Any] = {"True": "True", "False": "False"}
    return Condition(
        type=kind, status=known.get(shown.status, "Unknown"), reason=shown.reason or "Reported", message=shown.message
    )


def _largest(node: Node | None) -> dict[str, Any]:
    if node is None or LARGEST_ANNOTATION not in node.metadata.annotations:
        return {}
    try:
        return msgspec.json.decode(node.metadata.annotations[LARGEST_ANNOTATION], type=dict[str, str])
    except msgspec.DecodeError:
        return {}


def patch(old: VirtualNodeStatus, new: VirtualNodeStatus) -> Json | None:
    """A merge patch of the status subresource, or None. What has gone is named as null."""
    if old == new:
        return None
    before: Json = msgspec.to_builtins(old)
    after: Json = msgspec.to_builtins(new)
    gone = {key: None for key in before if key not in after}
    for key in ("allocatable", "largestNode"):
        if key in after:
            after[key] = {**{name: None for name in before.get(key, {}) if name not in after[key]}, **after[key]}
    return {"status": {**after, **gone}}
