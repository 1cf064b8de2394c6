"""Container statuses: those of the consumer's own containers, cleaned, and never running backwards."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from reflection.forge import names, sanitise
from reflection.forge.model import Json
from reflection.forge.restarts import KINDS, MayRestart

_IMAGE_LIMIT: Final = 1024
_ID_LIMIT: Final = 256
_UNKNOWN_EXIT = 255
"""For a terminated state without a usable exit code: it must not look like success."""

_SIGNAL = re.compile(r"SIG[A-Z0-9]{2,9}([+-][0-9]{1,2})?")
_RECURSIVE_READ_ONLY: Final = frozenset({"Disabled", "IfPossible", "Enabled"})


def container_statuses(pod: Json, remote_status: Json, *, base: Mapping[str, int]) -> dict[str, list[Json]]:
    """Give the three lists of container statuses for the consumer, in the order of its spec; empty ones left out.

    `base` is the number of restarts, by container, that earlier remote pods had. A container that the provider says
    nothing of keeps the status it has, unless the remote pod is a new one that has yet to start it; one that the
    consumer's pod does not have is dropped.
    """
    spec, current = pod["spec"], pod.get("status") or {}
    policy = spec.get("restartPolicy") or "Always"
    unstarted = remote_status.get("phase") in (None, "Pending")
    found = {}
    for containers_key, status_key, may_restart in KINDS:
        containers = spec.get(containers_key) or ()
        if not containers:
            continue
        reported = _by_name(sanitise.objects(remote_status.get(status_key), limit=max(64, 2 * len(containers))))
        known = _by_name(current.get(status_key) or ())
        statuses = []
        for container in containers:
            name = container["name"]
            old, new = known.get(name), reported.get(name)
            if new is not None:
                cleaned = _container_status(new, container, base=base.get(name, 0))
                statuses.append(_forward(old, cleaned, container, policy, may_restart))
            elif old is not None:
                again = unstarted and _may_run_again(old, container, policy, may_restart)
                statuses.append(_waiting_again(old) if again else old)
        if statuses:
            found[status_key] = statuses
    return found


def _by_name(entries: Iterable[Json]) -> dict[str, Json]:
    return {entry["name"]: entry for entry in entries if isinstance(entry.get("name"), str)}


def _forward(old: Json | None, new: dict[str, Any], container: Json, policy: str, may_restart: MayRestart) -> Json:
    """Take the new status unless it would undo a final state, which the API server would refuse as a whole."""
    if old is None:
        return new
    if "terminated" not in new["state"] and not _may_run_again(old, container, policy, may_restart):
        return old
    new["restartCount"] = max(new["restartCount"], old.get("restartCount", 0))
    return new


def _may_run_again(old: Json, container: Json, policy: str, may_restart: MayRestart) -> bool:
    ended = (old.get("state") or {}).get("terminated")
    return not ended or may_restart(policy, container, ended.get("exitCode", 0))


def waiting_statuses(pod: Json, *, reason: str, message: str) -> dict[str, list[Json]]:
    """Give container statuses that say why nothing runs; what is known of earlier runs stays."""
    current = pod.get("status") or {}
    policy = pod["spec"].get("restartPolicy") or "Always"
    found: dict[str, list[Json]] = {}
    for containers_key, status_key, may_restart in KINDS:
        known = _by_name(current.get(status_key) or ())
        for container in pod["spec"].get(containers_key) or ():
            old = known.get(container["name"])
            if old is None or _may_run_again(old, container, policy, may_restart):
                old = _waiting(old or _never_run(container), reason=reason, message=message)
            found.setdefault(status_key, []).append(old)
    return found


def _waiting_again(old: Json) -> Json:
    state = (old.get("state") or {}).get("waiting")
    if state is not None and state.get("reason") != names.REFUSED_REASON:
        return old
    return _waiting(old, reason="ContainerCreating")


def _waiting(old: Json, *, reason: str, message: str | None = None) -> Json:
    state = {"waiting": sanitise.keep({"reason": reason, "message": message})}
    return {**old, "ready": False, "started": False, "state": state}


def _never_run(container: Json) -> Json:
    return {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": "",
        "restartCount": 0,
        "lastState": {},
    }


def _container_status(reported: Json, container: Json, *, base: int) -> dict[str, Any]:
    out: dict[str, Any] = {
        "name": container["name"],
        "image": sanitise.text(reported.get("image"), limit=_IMAGE_LIMIT) or container.get("image", ""),
        "imageID": sanitise.text(reported.get("imageID"), limit=_IMAGE_LIMIT) or "",
        "ready": sanitise.flag(reported.get("ready")) or False,
        "restartCount": sanitise.count(sanitise.count(reported.get("restartCount")) + base),
        "state": _state(reported.get("state")),
        "lastState": _state(reported.get("lastState")),
    }
    for key, clean in _OPTIONAL.items():
        if key in reported:
            value = clean(reported[key], container)
            if value is not None:
                out[key] = value
    return out


def _state(value: object) -> dict[str, Any]:
    """Clean a ContainerState: at most one of its members."""
    state = sanitise.mapping(value)
    for key, clean in _STATES.items():
        if isinstance(state.get(key), dict):
            return {key: clean(state[key])}
    return {}


def _terminated(value: Json) -> dict[str, Any]:
    code = sanitise.exit_code(value.get("exitCode"))
    return sanitise.keep(
        {
            "exitCode": _UNKNOWN_EXIT if code is None else code,
            "signal": sanitise.exit_code(value.get("signal")) or None,
            "reason": sanitise.reason(value.get("reason")),
            "message": sanitise.message(value.get("message")),
            "startedAt": sanitise.timestamp(value.get("startedAt")),
            "finishedAt": sanitise.timestamp(value.get("finishedAt")),
            "containerID": sanitise.text(value.get("containerID"), limit=_ID_LIMIT),
        }
    )


def _running(value: Json) -> dict[str, Any]:
    return sanitise.keep({"startedAt": sanitise.timestamp(value.get("startedAt"))})


def _waits(value: Json) -> dict[str, Any]:
    return sanitise.keep(
        {"reason": sanitise.reason(value.get("reason")), "message": sanitise.message(value.get("message"))}
    )


_STATES: Final = {"terminated": _terminated, "running": _running, "waiting": _waits}


def _resources(value: object, _container: Json) -> dict[str, Any] | None:
    if not isinstance(value, dict):
        return None
    return sanitise.keep({key: sanitise.quantities(value.get(key)) for key in ("limits", "requests")})


def _volume_mounts(value: object, container: Json) -> list[dict[str, Any]] | None:
    """Keep mounts that the consumer's container has; the provider's own are not the consumer's business."""
    known = {mount.get("name") for mount in container.get("volumeMounts") or ()}
    found = []
    for mount in sanitise.objects(value, limit=max(64, 2 * len(known))):
        path = sanitise.text(mount.get("mountPath"), limit=_IMAGE_LIMIT)
        if isinstance(mount.get("name"), str) and mount["name"] in known and path:
            cleaned = {
                "name": mount["name"],
                "mountPath": path,
                "readOnly": sanitise.flag(mount.get("readOnly")),
                "recursiveReadOnly": sanitise.one_of(mount.get("recursiveReadOnly"), _RECURSIVE_READ_ONLY),
            }
            found.append(sanitise.keep(cleaned))
    return found or None


def _user(value: object, _container: Json) -> Json | None:
    linux = sanitise.mapping(sanitise.mapping(value).get("linux"))
    uid, gid = sanitise.user_id(linux.get("uid")), sanitise.user_id(linux.get("gid"))
    if uid is None or gid is None:
        return None
    groups = linux.get("supplementalGroups")
    found = [sanitise.user_id(group) for group in groups[:64]] if isinstance(groups, list) else []
    out: dict[str, Any] = {"uid": uid, "gid": gid}
    if found:
        out["supplementalGroups"] = [group for group in found if group is not None]
    return {"linux": out}


_OPTIONAL: Final[Mapping[str, Callable[[object, Json], Any]]] = {
    "containerID": lambda value, _: sanitise.text(value, limit=_ID_LIMIT),
    "started": lambda value, _: sanitise.flag(value),
    "allocatedResources": lambda value, _: sanitise.quantities(value),
    "resources": _resources,
    "volumeMounts": _volume_mounts,
    "user": _user,
    "stopSignal": lambda value, _: value if isinstance(value, str) and _SIGNAL.fullmatch(value) else None,
}
"""Optional members that pass. Device health (allocatedResourcesStatus) does not: it is of the provider's devices."""
