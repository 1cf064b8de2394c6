"""Making the Node object, and the least patch that turns the live one into what it should be. Pure.

Rules kept here:
- A node identity may set only some labels on itself and may not touch taints after creation (NodeRestriction), so
  taints are given at creation only.
- `status.addresses` is declared merge-by-type in the API, which breaks as soon as one type occurs twice (two stacks):
  it is replaced whole (k8s.io/component-helpers/node/util/status.go does the same).
- What others put on the Node stays: labels, annotations, condition types, resources and address types that are not
  ours. What *we* put there once and no longer want is removed; the annotation `offloading.isthmus.dev/applied`
  remembers it.
"""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from kube.quantities import Quantity, QuantityError
from vk.node.objects import Node, NodeAddress, NodeCondition
from vk.node.settings import APPLIED_ANNOTATION, DEFAULT_TAINT, MARKER_LABEL, NodeSettings
from vk.node.signals import Condition, Verdict

Json = dict[str, object]

_OWN_ADDRESS_TYPES = ("InternalIP", "Hostname")
_PRESSURES = (
    ("MemoryPressure", "KubeletHasSufficientMemory", "the provider decides about its nodes' memory"),
    ("DiskPressure", "KubeletHasNoDiskPressure", "the provider decides about its nodes' disks"),
    ("PIDPressure", "KubeletHasSufficientPID", "the provider decides about its nodes' processes"),
)
NO_ROUTE = Condition(
    type="NetworkUnavailable",
    status="False",
    reason="RouteCreated",
    message="a virtual node needs no route",
    normal="False",
)
"""Where nobody measures the network to the provider."""
_STARTING = Condition(
    type="Ready", status="False", reason="Starting", message="the provider's API server has not been reached yet"
)
_UNMEASURED = Condition(
    type="NetworkUnavailable",
    status="Unknown",
    reason="Starting",
    message="the network to the provider is not measured yet",
    normal="False",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What the Node should say now. None as `ready`, `network`, `resources`: not known yet, so leave what is there."""

    ready: Condition | None
    resources: Mapping[str, str] | None
    network: Condition | None = NO_ROUTE
    """NetworkUnavailable."""
    extra: tuple[Condition, ...] = ()
    annotations: Mapping[str, str] | None = field(default_factory=dict)
    """Besides those of the settings; None: not known yet, so leave what is there."""


class Applied(msgspec.Struct, frozen=True):
    """The keys that we have put on the Node, as remembered on the Node itself."""

    labels: tuple[str, ...] = ()
    annotations: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()


def ready_condition(verdicts: Iterable[Verdict | None]) -> Condition | None:
    """Ready only if all of it holds; the first thing that does not gives the reason. None: not all is known yet."""
    known = list(verdicts)
    for verdict in known:
        if verdict is not None and not verdict.ok:
            return Condition(type="Ready", status="False", reason=verdict.reason, message=verdict.message)
    if None in known:
        return None
    message = "the provider is reachable and takes pods"
    return Condition(type="Ready", status="True", reason="KubeletReady", message=message)


def owned(node: Node) -> bool:
    """Whether a Node of our name may be taken as ours.

    It is if it carries our label or taint, or if an administrator prepared it (`type=virtual-kubelet`) and no kubelet
    has ever reported on it. Anything else is a machine, or another program's node: hands off.
    """
    present = node.metadata.labels
    if present.get(MARKER_LABEL) == short_name(node.metadata.name):
        return True
    if any((taint.key, taint.value) == (DEFAULT_TAINT.key, DEFAULT_TAINT.value) for taint in node.spec.taints):
        return True
    unused = not node.status.node_info.get("kubeletVersion")
    return present.get("type") == "virtual-kubelet" and unused


def short_name(name: str) -> str:
    """The node's name as a label value: those end at 63 characters, a node name only at 253."""
    return name[:63].rstrip("-.")


def labels(settings: NodeSettings) -> dict[str, str]:
    """Every label that we put on the Node; the user's win over the standard ones."""
    short = short_name(settings.name)
    standard = {
        "kubernetes.io/hostname": short,
        "kubernetes.io/os": settings.os,
        "kubernetes.io/arch": settings.arch,
        "beta.kubernetes.io/os": settings.os,
        "beta.kubernetes.io/arch": settings.arch,
        "type": "virtual-kubelet",
        "node.kubernetes.io/exclude-from-external-load-balancers": "true",
    }
    return {**standard, **settings.labels, MARKER_LABEL: short}


def new_node(settings: NodeSettings, desired: Desired, *, now: str) -> Json:
    """The Node to be created, complete with status, so that it is never seen half made."""
    resources = dict(desired.resources or {})
    conditions = _conditions(desired, live=())
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": settings.name,
            "labels": labels(settings),
            "annotations": _annotations(settings, desired.annotations or {}, resources),
        },
        "spec": {"taints": [_taint(taint.key, taint.value, taint.effect) for taint in settings.taints]},
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "conditions": [_written(condition, live=None, now=now) for condition in conditions],
            "addresses": [{"type": item.type, "address": item.address} for item in _addresses(settings, live=())],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": settings.port}},
            "nodeInfo": node_info(settings),
        },
    }


def node_info(settings: NodeSettings) -> dict[str, str]:
    """status.nodeInfo; its identifiers are stable over restarts: a new bootID would mean that a machine rebooted."""
    identity = uuid.uuid5(uuid.NAMESPACE_URL, f"https://isthmus.dev/nodes/{settings.name}")
    return {
        "architecture": settings.arch,
        "bootID": str(identity),
        "containerRuntimeVersion": settings.runtime_version,
        "kernelVersion": "",
        "kubeProxyVersion": "",
        "kubeletVersion": settings.kubelet_version,
        "machineID": identity.hex,
        "operatingSystem": settings.os,
        "osImage": "isthmus virtual node",
        "systemUUID": str(identity),
    }


def metadata_patch(settings: NodeSettings, desired: Desired, *, live: Node) -> Json | None:
    """A strategic-merge patch of labels and annotations, or None if they are as they should be."""
    past = applied(live)
    still = [name for name in past.resources if name in live.status.capacity or name in live.status.allocatable]
    resources = {**dict.fromkeys(still, ""), **(desired.resources or {})}
    shown = live.metadata.annotations
    unknown = {name: shown[name] for name in past.annotations if name in shown and name not in settings.annotations}
    own = unknown if desired.annotations is None else desired.annotations
    annotations = _annotations(settings, own, resources)
    changes = {
        "labels": _map_patch(labels(settings), live=live.metadata.labels, past=past.labels),
        "annotations": _map_patch(annotations, live=live.metadata.annotations, past=past.annotations),
    }
    changed = {name: patch for name, patch in changes.items() if patch}
    return {"metadata": {"uid": live.metadata.uid, **changed}} if changed else None


def status_patch(settings: NodeSettings, desired: Desired, *, live: Node, now: str, heartbeat: bool) -> Json | None:
    """A strategic-merge patch of the status subresource, or None if nothing has changed and no heartbeat is due.

    Whenever anything is written, all our conditions are, with a new lastHeartbeatTime. The patch carries the Node's
    UID as precondition: a Node that was made anew meanwhile is looked at first.
    """
    status: Json = {}
    if desired.resources is not None:
        past = applied(live).resources
        for name, present in (("capacity", live.status.capacity), ("allocatable", live.status.allocatable)):
            if patch := _resource_patch(desired.resources, live=present, past=past):
                status[name] = patch
    addresses = _addresses(settings, live=live.status.addresses)
    if addresses != live.status.addresses:
        listed: list[object] = [{"type": item.type, "address": item.address} for item in addresses]
        status["addresses"] = [*listed, {"$patch": "replace"}]
    if live.status.daemon_endpoints.kubelet_endpoint.port != settings.port:
        status["daemonEndpoints"] = {"kubeletEndpoint": {"Port": settings.port}}
    if info := _info_patch(node_info(settings), live=live.status.node_info):
        status["nodeInfo"] = info
    conditions = _conditions(desired, live=live.status.conditions)
    changed = any(_differs(condition, live.status.condition(condition.type)) for condition in conditions)
    if not (status or changed or heartbeat):
        return None
    status["conditions"] = [
        _written(condition, live=live.status.condition(condition.type), now=now) for condition in conditions
    ]
    return {"metadata": {"uid": live.metadata.uid}, "status": status}


def transitions(desired: Desired, *, live: Node) -> list[Condition]:
    """The conditions that matter to a reader and whose status is another one than the Node shows."""
    told = [*desired.extra, *(one for one in (desired.network, desired.ready) if one is not None)]
    shown = {condition.type: condition.status for condition in live.status.conditions}
    return [condition for condition in told if shown.get(condition.type, condition.normal) != condition.status]


def missing_taints(settings: NodeSettings, *, live: Node) -> list[str]:
    """Taints that were asked for and that the Node lacks; only an administrator can add them now."""
    present = {(taint.key, taint.value, taint.effect) for taint in live.spec.taints}
    return [taint.key for taint in settings.taints if (taint.key, taint.value, taint.effect) not in present]


def applied(live: Node) -> Applied:
    """What the Node's annotation says that we have applied; nothing, if it is absent or was spoilt by someone."""
    try:
        return msgspec.json.decode(live.metadata.annotations.get(APPLIED_ANNOTATION, "{}"), type=Applied)
    except msgspec.DecodeError:
        return Applied()


def _annotations(settings: NodeSettings, more: Mapping[str, str], resources: Mapping[str, str]) -> dict[str, str]:
    """All annotations of ours, and the one that remembers what we applied."""
    own = {**settings.annotations, **more}
    wanted = Applied(tuple(sorted(settings.labels)), tuple(sorted(own)), tuple(sorted(resources)))
    return {**own, APPLIED_ANNOTATION: _encode(wanted)}


def _encode(value: Applied) -> str:
    return msgspec.json.encode(value).decode()


def _taint(key: str, value: str, effect: str) -> Json:
    return {"key": key, "effect": effect, **({"value": value} if value else {})}


def _conditions(desired: Desired, *, live: Iterable[NodeCondition]) -> list[Condition]:
    """Ready last, as kubelets list them; what is unknown is left out if the Node has it already."""
    shown = {condition.type for condition in live}
    known = [Condition(type=kind, status="False", reason=reason, message=text) for kind, reason, text in _PRESSURES]
    network = desired.network or (_UNMEASURED if _UNMEASURED.type not in shown else None)
    ready = desired.ready or (_STARTING if _STARTING.type not in shown else None)
    return [*known, *([network] if network else []), *desired.extra, *([ready] if ready else [])]


def _differs(condition: Condition, live: NodeCondition | None) -> bool:
    wanted = (condition.status, condition.reason, condition.message)
    return live is None or wanted != (live.status, live.reason, live.message)


def _written(condition: Condition, *, live: NodeCondition | None, now: str) -> Json:
    kept = live.last_transition_time if live is not None and live.status == condition.status else None
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "lastHeartbeatTime": now,
        "lastTransitionTime": kept or now,
    }


def _addresses(settings: NodeSettings, *, live: Iterable[NodeAddress]) -> tuple[NodeAddress, ...]:
    own = [NodeAddress("InternalIP", address) for address in settings.addresses]
    if settings.hostname:
        own.append(NodeAddress("Hostname", settings.hostname))
    foreign = [address for address in live if address.type not in _OWN_ADDRESS_TYPES]
    return (*own, *foreign)


def _map_patch(wanted: Mapping[str, str], *, live: Mapping[str, str], past: Iterable[str]) -> Json:
    patch: Json = {key: value for key, value in wanted.items() if live.get(key) != value}
    return patch | {key: None for key in past if key in live and key not in wanted}


def _resource_patch(wanted: Mapping[str, str], *, live: Mapping[str, str], past: Iterable[str]) -> Json:
    patch: Json = {name: amount for name, amount in wanted.items() if not _same_amount(amount, live.get(name))}
    return patch | {name: None for name in past if name in live and name not in wanted}


def _same_amount(wanted: str, live: str | None) -> bool:
    if live is None:
        return False
    try:
        return Quantity.parse(wanted) == Quantity.parse(live)
    except QuantityError:
        return False


def _info_patch(wanted: Mapping[str, str], *, live: Mapping[str, object]) -> Json:
    return {key: value for key, value in wanted.items() if live.get(key) != value}
