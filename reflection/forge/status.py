"""The consumer pod's status: what the provider reports, as far as it may be believed and means something here."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any, Final

import msgspec

from reflection.forge import conditions as pod_conditions
from reflection.forge import names, sanitise
from reflection.forge.conditions import CONTAINERS_READY, DISRUPTION_TARGET, OWNED, READY, condition
from reflection.forge.containerstatus import container_statuses, waiting_statuses
from reflection.forge.model import ForgeContext, Json, Refused
from reflection.forge.restarts import KINDS

_PHASES: Final = frozenset({"Pending", "Running", "Succeeded", "Failed", "Unknown"})
TERMINAL: Final = frozenset({"Succeeded", "Failed"})
_RESIZES: Final = frozenset({"Proposed", "InProgress", "Deferred", "Infeasible"})
_STATUS_LISTS: Final = tuple(status_key for _, status_key, _ in KINDS)

MANAGED: Final = (
    "phase",
    "reason",
    "message",
    "hostIP",
    "hostIPs",
    "podIP",
    "podIPs",
    "startTime",
    "observedGeneration",
    "resize",
    *_STATUS_LISTS,
)
"""Status fields that this node writes, besides conditions; all others, as qosClass, are the consumer's."""

_MERGED_BY_KEY: Final = frozenset({"hostIPs", "podIPs"})
_SOFT: Final = frozenset(
    {"observedGeneration", "allocatedResources", "resources", "volumeMounts", "user", "stopSignal"}
)
"""Fields that older API servers drop: one missing at the consumer is by itself no reason to write, or that would
repeat for ever."""

_STAYING: Final = frozenset({"lastProbeTime", "observedGeneration"})
"""Members of a condition that can't be taken away: the API server keeps an observedGeneration that a patch lacks."""

REMOTE_POD_LOST: Final = "RemotePodLost"
"""Reason of a pod that may not run twice and whose remote pod vanished."""

LOST_EXIT_CODE: Final = 137
"""What a kubelet reports for a container it lost sight of, with reason ContainerStatusUnknown."""


def forge_status(pod: Json, remote: Json, *, context: ForgeContext, now: str, in_step: bool = True) -> dict[str, Any]:
    """Give the status that the consumer's pod should have, by what is known of its remote pod.

    It never runs backwards: a terminal phase stays, with all that was said then; restart counts do not fall; a
    container that may not restart stays terminated. `now` is an RFC 3339 time; `in_step` says that the remote pod
    was given all changes of the consumer's spec, so that its generation may be reported as observed. The result has
    only fields of MANAGED and `conditions`; it may share parts with the arguments.
    """
    current = pod.get("status") or {}
    status = sanitise.mapping(remote.get("status"))
    phase = sanitise.one_of(status.get("phase"), _PHASES) or current.get("phase") or "Pending"
    if current.get("phase") in TERMINAL and phase != current["phase"]:
        return managed(current)
    taken_up = _taken_up(status, phase)
    generation = _observed(pod, remote) if in_step and taken_up else None
    wanted: dict[str, Any] = {
        "phase": phase,
        "reason": sanitise.reason(status.get("reason")) or None,
        "message": sanitise.message(status.get("message")) or None,
        "startTime": current.get("startTime") or sanitise.timestamp(status.get("startTime")),
        "resize": sanitise.one_of(status.get("resize"), _RESIZES),
        "observedGeneration": generation or current.get("observedGeneration"),
        "conditions": pod_conditions.conditions(pod, remote, generation=generation, now=now),
        **(_host(context) if taken_up else {key: current.get(key) for key in ("hostIP", "hostIPs")}),
        **_pod_ips(status, context),
        **container_statuses(pod, status, base=_restart_base(remote)),
    }
    unscheduled = next((one for one in wanted["conditions"] if one.get("type") == names.REMOTE_SCHEDULED), None)
    if unscheduled is not None:
        wanted["reason"] = wanted["reason"] or unscheduled.get("reason")
        wanted["message"] = wanted["message"] or f"at the provider: {unscheduled.get('message', 'not scheduled')}"
    return sanitise.keep(wanted)


def lost_status(pod: Json, *, reason: str, message: str, now: str) -> dict[str, Any]:
    """Give the status of a pod whose remote pod is gone for good: failed by disruption, not by its own doing.

    DisruptionTarget lets a Job's podFailurePolicy tell the two apart. A pod already at its end keeps its status.
    """
    current = pod.get("status") or {}
    wanted = managed(current)
    if current.get("phase") in TERMINAL:
        return wanted
    for key in _STATUS_LISTS:
        if key in wanted:
            wanted[key] = [_lost_container(entry, now) for entry in wanted[key]]
    made = [
        condition(DISRUPTION_TARGET, "True", now=now, reason=reason, message=message),
        condition(CONTAINERS_READY, "False", now=now, reason="PodFailed"),
        condition(READY, "False", now=now, reason="PodFailed"),
    ]
    wanted.update(phase="Failed", reason=reason, message=message, conditions=_replaced(current, made))
    return wanted


def recorded_status(pod: Json, *, phase: str, reason: str, message: str, now: str) -> dict[str, Any]:
    """Give the status of a pod of which the provider knows no more than how it ended. One at its end keeps its status.

    Its containers are told as a kubelet tells of those that it lost sight of; after a success it is known how they
    ended, for all must have.
    """
    current = pod.get("status") or {}
    wanted = managed(current)
    if current.get("phase") in TERMINAL or phase not in TERMINAL:
        return wanted
    if phase == "Failed" and reason == REMOTE_POD_LOST:
        return lost_status(pod, reason=reason, message=message, now=now)
    known = waiting_statuses(pod, reason="ContainerStatusUnknown", message="")
    ended = {"exitCode": 0, "reason": "Completed", "finishedAt": now} if phase == "Succeeded" else None
    for key, entries in known.items():
        wanted[key] = [_lost_container(entry, now, ended) for entry in entries]
    made = [
        condition(kind, "False", now=now, reason="PodCompleted" if ended else "PodFailed")
        for kind in (CONTAINERS_READY, READY)
    ]
    told = {"reason": sanitise.reason(reason) or None, "message": sanitise.message(message) or None}
    wanted.update(phase=phase, **told, conditions=_replaced(current, made))
    return sanitise.keep(wanted)


def refused_status(pod: Json, refused: Refused, *, now: str) -> dict[str, Any]:
    """Give the status of a pod that can't run at the provider: pending, saying which field is why and what to do.

    Not Failed: its controller would replace it at once, and so on for ever.
    """
    current = pod.get("status") or {}
    wanted = managed(current)
    if current.get("phase") in TERMINAL:
        return wanted
    reason, message = names.REFUSED_REASON, str(refused)
    made = [condition(kind, "False", now=now, reason=reason, message=message) for kind in (CONTAINERS_READY, READY)]
    wanted.update(phase="Pending", reason=reason, message=message, conditions=_replaced(current, made))
    wanted.update(waiting_statuses(pod, reason=reason, message=message))
    return wanted


def managed(status: Json) -> dict[str, Any]:
    """Give the part of a status that is compared and written."""
    return sanitise.keep({key: status.get(key) for key in (*MANAGED, "conditions")})


def status_patch(current: Json | None, wanted: Json) -> dict[str, Any] | None:
    """Give the strategic-merge patch for pods/status that brings `current` to `wanted`; None if there is no need.

    Only what changed is in it, of conditions only those that changed, so that writers at the consumer are not undone.
    """
    status = current or {}
    patch: dict[str, Any] = {}
    for key in MANAGED:
        before, after = status.get(key), wanted.get(key)
        if before == after or (key == "observedGeneration" and not (before and after)) or _same(before, after):
            continue
        # Lists of addresses merge by address: without the directive the old ones would stay.
        patch[key] = [{"$patch": "replace"}, *after] if key in _MERGED_BY_KEY and after else after
    changed = _changed_conditions(status.get("conditions") or (), wanted.get("conditions") or ())
    if changed:
        patch["conditions"] = changed
    if patch and not status.get("observedGeneration") and wanted.get("observedGeneration"):
        patch["observedGeneration"] = wanted["observedGeneration"]
    return {"status": patch} if patch else None


def _changed_conditions(before: Any, after: Any) -> list[Json]:
    known = {entry.get("type"): entry for entry in before}
    changed: list[Json] = []
    for entry in after:
        old = known.pop(entry["type"], None)
        if old is entry or (old is not None and _same(_comparable(old, entry), _comparable(entry, entry))):
            continue
        # Members are merged as well: one that is no longer there has to be taken away.
        gone = {key: None for key in old or {} if key not in entry and key not in _STAYING}
        changed.append({**entry, **gone})
    changed.extend({"$patch": "delete", "type": kind} for kind in known if kind in OWNED)
    return changed


def _comparable(entry: Json, wanted: Json) -> dict[str, Any]:
    return {
        key: value
        for key, value in entry.items()
        if value is not None and value != "" and (key in wanted or key not in _STAYING)
    }


def _same(before: Any, after: Any) -> bool:
    """Compare as the API server stores things: null is absent, and soft fields may be missing at the consumer."""
    if isinstance(before, dict) and isinstance(after, dict):
        return all(
            _same(before.get(key), after.get(key))
            for key in before.keys() | after.keys()
            if not (key in _SOFT and before.get(key) is None)
        )
    if isinstance(before, list) and isinstance(after, list):
        return len(before) == len(after) and all(map(_same, before, after))
    return bool(before == after)


def _taken_up(status: Json, phase: str) -> bool:
    """Tell whether a kubelet of the provider has said anything yet: before it does, a host is not worth a write."""
    return phase != "Pending" or bool(status.get("startTime") or status.get("containerStatuses"))


def _observed(pod: Json, remote: Json) -> int | None:
    """Give the consumer's generation, if the provider's kubelet has seen the latest of the remote pod."""
    seen, latest = (
        sanitise.mapping(remote.get("status")).get("observedGeneration"),
        remote["metadata"].get("generation"),
    )
    if isinstance(seen, int) and isinstance(latest, int) and seen < latest:
        return None
    generation = pod["metadata"].get("generation")
    return generation if isinstance(generation, int) and generation > 0 else None


def _host(context: ForgeContext) -> dict[str, Any]:
    """Give the virtual node's addresses: the provider's nodes are none of the consumer's."""
    if not context.node_ips:
        return {}
    return {"hostIP": context.node_ips[0], "hostIPs": [{"ip": ip} for ip in _per_family(context.node_ips)]}


def _pod_ips(status: Json, context: ForgeContext) -> dict[str, Any]:
    reported = [entry.get("ip") for entry in sanitise.objects(status.get("podIPs"), limit=2)] or [status.get("podIP")]
    found = []
    for ip in reported:
        known = sanitise.address(ip) if isinstance(ip, str) else None
        translated = context.translate(known) if known else None
        home = sanitise.address(translated) if translated else None
        if home is not None and _may_claim(home, context):
            found.append(home)
    found = _per_family(found)
    return {"podIP": found[0], "podIPs": [{"ip": ip} for ip in found]} if found else {}


def _may_claim(ip: str, context: ForgeContext) -> bool:
    if ip in context.forbidden_ips or ip in context.node_ips:
        return False
    return not context.pod_networks or any(ip_address(ip) in network for network in context.pod_networks)


def _per_family(ips: Any) -> list[str]:
    """Keep the first address of each family, all that a pod may have."""
    found: dict[bool, str] = {}
    for ip in ips:
        found.setdefault(":" in ip, ip)
    return list(found.values())


def _restart_base(remote: Json) -> dict[str, int]:
    text = (remote["metadata"].get("annotations") or {}).get(names.RESTART_BASE)
    if not text:
        return {}
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}
    return {name: sanitise.count(number) for name, number in sanitise.mapping(found).items()}


def _replaced(current: Json, made: list[Json]) -> list[Json]:
    known = {entry.get("type"): entry for entry in current.get("conditions") or ()}
    for entry in made:
        old = known.get(entry["type"])
        since = old.get("lastTransitionTime") if old and old.get("status") == entry["status"] else None
        known[entry["type"]] = {**entry, "lastTransitionTime": since or entry["lastTransitionTime"]}
    return [entry for kind, entry in known.items() if kind != names.REMOTE_SCHEDULED]


def _lost_container(entry: Json, now: str, ended: Json | None = None) -> Json:
    if (entry.get("state") or {}).get("terminated"):
        return entry
    ended = ended or {
        "exitCode": LOST_EXIT_CODE,
        "reason": "ContainerStatusUnknown",
        "message": "The container could not be located when the pod was terminated",
        "finishedAt": now,
    }
    return {**entry, "ready": False, "started": False, "state": {"terminated": ended}}
