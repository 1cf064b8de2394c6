"""From a ShadowPod to its pod, what is to be passed on later, and how a pod ended. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import msgspec

from api.offloading.definitions import SHADOW_PODS
from api.offloading.shadow_pod import ShadowPod
from kube.objects import Metadata
from reflection.decode import TERMINAL_PHASES, cut_short, restart_counts, started
from reflection.forge import changes as forge_changes
from reflection.forge import metadata, names, sanitise
from reflection.forge.model import Changes
from reflection.forge.status import REMOTE_POD_LOST
from reflection.managed.names import APPLIED, POD_FINALIZER, SHADOW_LABEL
from reflection.managed.settings import Limits

Json = dict[str, Any]

NO_LIMITS: Final = Limits()
LOST: Final = REMOTE_POD_LOST
"""Reason of a pod that must not run twice and vanished; consumers use it too."""


def template(shadow: ShadowPod) -> Json:
    """The pod that is asked for, as plain data."""
    asked = shadow.spec.pod
    spec = msgspec.json.decode(asked.spec)
    return {
        "metadata": {"labels": dict(asked.metadata.labels), "annotations": dict(asked.metadata.annotations)},
        "spec": spec if isinstance(spec, dict) else {},
    }


def forge(
    shadow: ShadowPod,
    pod: Json,
    *,
    consumer_id: str,
    limits: Limits = NO_LIMITS,
    restart_base: Mapping[str, int] | None = None,
) -> Json:
    """The pod to create for a ShadowPod; `pod` is its checked template. What isthmus relies on is set here.

    `restart_base` are restarts by container that an earlier pod of the same ShadowPod had.
    """
    meta, spec = shadow.metadata, dict(pod["spec"])
    spec.pop("ephemeralContainers", None)  # added by their subresource
    spec.update(automountServiceAccountToken=False, enableServiceLinks=False)
    if limits.node_selector:
        spec["nodeSelector"] = {**(spec.get("nodeSelector") or {}), **limits.node_selector}
    annotations = _annotations(pod)
    if restart_base:
        annotations[names.RESTART_BASE] = msgspec.json.encode(restart_base).decode()
    owner = {
        "apiVersion": SHADOW_PODS.api_version,
        "kind": SHADOW_PODS.kind,
        "name": meta.name,
        "uid": meta.uid,
        "controller": True,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": meta.name,
            "namespace": meta.namespace,
            "labels": _labels(shadow, pod, consumer_id),
            "annotations": annotations,
            "ownerReferences": [owner],
            "finalizers": [POD_FINALIZER],
        },
        "spec": spec,
    }


def _labels(shadow: ShadowPod, pod: Json, consumer_id: str) -> dict[str, str]:
    return {
        names.MANAGED_BY_LABEL: names.MANAGED_BY,
        **pod["metadata"]["labels"],
        names.CONSUMER_LABEL: names.label_value(consumer_id),
        SHADOW_LABEL: shadow.metadata.uid,
    }


def _annotations(pod: Json) -> dict[str, str]:
    return {**pod["metadata"]["annotations"], APPLIED: metadata.encode_record(metadata.record(pod))}


def made_for(meta: Metadata) -> str:
    """UID of the ShadowPod that a pod was made for; empty if none."""
    return meta.labels.get(SHADOW_LABEL, "")


def changes(shadow: ShadowPod, pod: Json, running: Json, *, consumer_id: str) -> Changes:
    """What is to be passed on to a running pod; falsy if nothing is.

    As in direct mode compared is the record of what was last passed on, so that what other admission at the provider
    set is left alone. The record goes last, in `patch`: what is lost on the way is found again.
    """
    ephemeral = _ephemeral(pod, running)
    record = metadata.record(pod)
    there = running["metadata"]
    annotations, labels = _annotations(pod), _labels(shadow, pod, consumer_id)
    before = metadata.decode_record((there.get("annotations") or {}).get(APPLIED))
    if before == record:
        present = there.get("labels") or {}
        ours = (names.CONSUMER_LABEL, names.NODE_LABEL, SHADOW_LABEL)
        lost = {key: labels[key] for key in ours if key in labels and present.get(key) != labels[key]}
        return Changes({"metadata": {"labels": lost}} if lost else None, None, ephemeral)
    restarts = (there.get("annotations") or {}).get(names.RESTART_BASE)
    if restarts is not None:
        annotations[names.RESTART_BASE] = restarts
    found = {
        "labels": forge_changes.difference(there.get("labels"), labels, _keys(before, "labels")),
        "annotations": forge_changes.difference(there.get("annotations"), annotations, _keys(before, "annotations")),
    }
    patch: Json = {"metadata": {key: value for key, value in found.items() if value}}
    spec = forge_changes.images(pod, running, before, record)
    deadline = record.get("activeDeadlineSeconds")
    if deadline not in (None, before.get("activeDeadlineSeconds"), running["spec"].get("activeDeadlineSeconds")):
        spec["activeDeadlineSeconds"] = deadline
    if spec:
        patch["spec"] = spec
    return Changes(patch, forge_changes.resize(pod, running, before, record), ephemeral)


def _keys(record: Json, which: str) -> list[str]:
    """The keys that were the consumer's, but for those that the provider set itself."""
    known = record.get(which)
    ours = (SHADOW_LABEL, names.CONSUMER_LABEL, APPLIED, names.RESTART_BASE)
    return [key for key in known if key not in ours] if isinstance(known, list) else []


def _ephemeral(pod: Json, running: Json) -> Json | None:
    there = forge_changes.by_name(running["spec"].get("ephemeralContainers"))
    wanted = sanitise.objects(pod["spec"].get("ephemeralContainers"), limit=256)
    missing = [one for one in wanted if one.get("name") not in there]
    return {"spec": {"ephemeralContainers": missing}} if missing else None


class Course(Enum):
    """Where a pod is on its way."""

    ALIVE = "alive"
    GOING = "going"  # being deleted by somebody; its containers may still run
    OVER = "over"  # deleted before its time: another is to be made
    ENDED = "ended"  # it ran to its end, or may not run again


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is the case with a pod, and what to record if it ended."""

    course: Course
    phase: str = ""
    reason: str = ""
    message: str = ""
    restarts: Mapping[str, int] = field(default_factory=dict)
    """Of one that is OVER: what its successor counts from."""


def judge(asked: Json, running: Json) -> Verdict:
    """Say where a pod is. `asked` is the template. Its ShadowPod is not being deleted."""
    meta, status = running["metadata"], running["status"]
    policy = asked["spec"].get("restartPolicy", "Always")
    deleted = bool(meta.get("deletionTimestamp"))
    if status.get("phase") in TERMINAL_PHASES and not cut_short({"metadata": {}, "spec": asked["spec"]}, running):
        return Verdict(
            Course.ENDED,
            status["phase"],
            sanitise.reason(status.get("reason")) or "",
            sanitise.message(status.get("message")) or "",
        )
    if not deleted:
        return Verdict(Course.ALIVE, sanitise.text(status.get("phase"), limit=16) or "Pending")
    if meta.get("deletionGracePeriodSeconds") and status.get("phase") not in TERMINAL_PHASES:
        return Verdict(Course.GOING)  # a kubelet says by grace 0, or by the phase, that its containers are dead
    if policy == "Never" and has_run(running):
        return Verdict(Course.ENDED, "Failed", LOST, "the pod was deleted at the provider and may not run twice")
    return Verdict(Course.OVER, restarts=_next_restarts(running))


def _next_restarts(running: Json) -> dict[str, int]:
    if not started(running):
        return dict(_base(running))
    base = _base(running)
    return {name: base.get(name, 0) + count + 1 for name, count in restart_counts(running).items()}


def _base(running: Json) -> dict[str, int]:
    try:
        return msgspec.json.decode(
            (running["metadata"].get("annotations") or {}).get(names.RESTART_BASE, "{}"), type=dict[str, int]
        )
    except msgspec.DecodeError:
        return {}


def has_run(running: Json) -> bool:
    """Whether any container of a pod was ever started, as far as its status tells."""
    return started(running) or running["status"].get("phase") in ("Running", *TERMINAL_PHASES)
