"""Pod conditions: the consumer's own kept, the kubelet's taken from the provider, Ready computed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from reflection.forge import names, sanitise
from reflection.forge.model import Json

CONTAINERS_READY: Final = "ContainersReady"
READY: Final = "Ready"
DISRUPTION_TARGET: Final = "DisruptionTarget"

_RESIZING: Final = ("PodResizePending", "PodResizeInProgress")
_PASSING: Final = ("PodReadyToStartContainers", "Initialized", CONTAINERS_READY, *_RESIZING)
"""Conditions taken from the provider as they are."""
_TRANSIENT: Final = frozenset({*_RESIZING, names.REMOTE_SCHEDULED})
"""Conditions that mean something only while they are there."""
_READ: Final = frozenset({*_PASSING, READY, DISRUPTION_TARGET, "PodScheduled"})

OWNED: Final = frozenset({*_PASSING, *_TRANSIENT, READY})
"""Types that this node writes and may remove; all others belong to somebody at the consumer."""

_STATUSES: Final = frozenset({"True", "False", "Unknown"})


def conditions(pod: Json, remote: Json, *, generation: int | None, now: str) -> list[Json]:
    """Give all conditions the consumer's pod should have.

    Types neither ours nor a kubelet's stay as they are (PodScheduled, readiness gates, quota, ...), and of the
    provider's only the known ones pass. `generation` is what was observed, None if unknown; `now` is the time of
    transitions for which the provider gives none.
    """
    current = _by_type((pod.get("status") or {}).get("conditions") or ())
    status = sanitise.mapping(remote.get("status"))
    reported = _reported(status, now)
    wanted = {kind: entry for kind, entry in current.items() if kind not in _TRANSIENT}
    fresh = [reported[kind] for kind in _PASSING if kind in reported]
    fresh.extend(_remote_scheduled(reported, remote))
    if (current.get(DISRUPTION_TARGET) or {}).get("status") != "True" and DISRUPTION_TARGET in reported:
        fresh.append(reported[DISRUPTION_TARGET])
    for entry in fresh:
        wanted[entry["type"]] = _settled(current.get(entry["type"]), entry, generation)
    for entry in _readiness(pod, wanted, reported, now):
        wanted[entry["type"]] = _settled(current.get(entry["type"]), entry, generation)
    return list(wanted.values())


def condition(kind: str, status: str, *, now: str, reason: str | None = None, message: str | None = None) -> Json:
    """Make a condition that has just become so."""
    return sanitise.keep(
        {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": now,
        }
    )


def _by_type(entries: Iterable[Json]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for entry in entries:
        kind = entry.get("type")
        if isinstance(kind, str):
            found.setdefault(kind, entry)
    return found


def _reported(status: Json, now: str) -> dict[str, Json]:
    """Give the provider's conditions as far as they are of known type and make sense, cleaned."""
    found = {}
    for kind, entry in _by_type(sanitise.objects(status.get("conditions"))).items():
        state = sanitise.one_of(entry.get("status"), _STATUSES)
        if kind in _READ and state is not None:
            found[kind] = condition(
                kind,
                state,
                now=sanitise.timestamp(entry.get("lastTransitionTime")) or now,
                reason=sanitise.reason(entry.get("reason")) or None,
                message=sanitise.message(entry.get("message")) or None,
            )
    return found


def _settled(current: Json | None, entry: Json, generation: int | None) -> Json:
    """Keep the time of a transition that the consumer knows of already, and say which generation was seen."""
    out: dict[str, Any] = dict(entry)
    if current is not None and current.get("status") == entry["status"]:
        out["lastTransitionTime"] = current.get("lastTransitionTime") or entry["lastTransitionTime"]
    seen = generation or (current or {}).get("observedGeneration")
    if seen:
        out["observedGeneration"] = seen
    return out


def _remote_scheduled(reported: dict[str, Json], remote: Json) -> list[Json]:
    """Say that the provider finds no node: the consumer's own PodScheduled is true, and stays so."""
    entry = reported.get("PodScheduled")
    if entry is None or entry["status"] != "False" or sanitise.mapping(remote.get("spec")).get("nodeName"):
        return []
    return [{**entry, "type": names.REMOTE_SCHEDULED}]


def _readiness(pod: Json, wanted: dict[str, Json], reported: dict[str, Json], now: str) -> list[Json]:
    """Compute Ready as a kubelet does (pkg/kubelet/status/generate.go), with the consumer's readiness gates.

    The remote pod has no gates, so its own Ready differs from its ContainersReady only where the provider's control
    plane has given up on its node; that counts too.
    """
    if CONTAINERS_READY not in reported:
        # A remote pod that no kubelet has seen yet. Nothing to say, unless what was said of an earlier one is over.
        return [
            condition(kind, "False", now=now, reason="ContainersNotReady", message="the remote pod has not started")
            for kind in (CONTAINERS_READY, READY)
            if _is_over(wanted.get(kind))
        ]
    containers_ready = wanted[CONTAINERS_READY]
    remote_ready = reported.get(READY)
    base = remote_ready if containers_ready["status"] == "True" and remote_ready else containers_ready
    if base["status"] != "True":
        return [{**base, "type": READY}]
    unmet = _unmet_gates(pod, wanted)
    if unmet:
        return [condition(READY, "False", now=now, reason="ReadinessGatesNotReady", message=", ".join(unmet))]
    # With gates, readiness may have come later than the provider says.
    since = now if pod["spec"].get("readinessGates") else base["lastTransitionTime"]
    return [condition(READY, "True", now=since)]


def _is_over(entry: Json | None) -> bool:
    return entry is not None and (entry.get("status") == "True" or entry.get("reason") == names.REFUSED_REASON)


def _unmet_gates(pod: Json, wanted: dict[str, Json]) -> list[str]:
    unmet = []
    for gate in pod["spec"].get("readinessGates") or ():
        kind = gate.get("conditionType", "")
        entry = wanted.get(kind)
        if entry is None:
            unmet.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif entry.get("status") != "True":
            unmet.append(f'the status of pod readiness gate "{kind}" is not "True", but {entry.get("status")}')
    return unmet
