"""From the raw envelope to the plain dict that the forge works on, and small questions about such a dict. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from kube.objects import Object

TERMINAL_PHASES = frozenset({"Succeeded", "Failed"})
_STATUS_LISTS = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")


def decode_pod(envelope: Object) -> dict[str, Any]:
    """The pod as a plain dict with Kubernetes' own field names; spec and status are fresh, safe to modify."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": msgspec.to_builtins(envelope.metadata),
        "spec": msgspec.json.decode(envelope.spec) if envelope.spec else {},
        "status": msgspec.json.decode(envelope.status) if envelope.status else {},
    }


class _Phase(msgspec.Struct):
    """The one field of a status that `starting` looks at, whatever the provider made of it."""

    phase: Any = None


_phase_decoder = msgspec.json.Decoder(_Phase)


def starting(envelope: Object) -> bool:
    """Whether the pod is not being deleted and its phase is Pending or not set: read without decoding all of it."""
    return not envelope.metadata.deletion_timestamp and phase(envelope) in ("", "Pending")


def phase(envelope: Object) -> str:
    """The phase of a pod, empty if it has none; `?` if its status can't be read."""
    try:
        found = _phase_decoder.decode(envelope.status).phase if envelope.status else None
    except msgspec.DecodeError:
        return "?"
    return "" if found is None else str(found)


def terminal(pod: dict[str, Any]) -> bool:
    """Whether the pod ran to its end."""
    return pod["status"].get("phase") in TERMINAL_PHASES


def started(pod: dict[str, Any]) -> bool:
    """Whether any container of the pod was ever started, as far as its status tells."""
    status = pod["status"]
    return any(
        container.get("containerID") or container.get("restartCount")
        for field in _STATUS_LISTS
        for container in status.get(field) or ()
    )


def restart_counts(pod: dict[str, Any]) -> dict[str, int]:
    """Restart count by container name, as the status tells."""
    status = pod["status"]
    return {
        container["name"]: int(container.get("restartCount") or 0)
        for field in ("initContainerStatuses", "containerStatuses")
        for container in status.get(field) or ()
    }


def cut_short(pod: dict[str, Any], remote: dict[str, Any]) -> bool:
    """Whether the remote pod ended only because the provider deleted it, though this pod is to go on.

    A kubelet calls a deleted pod Succeeded or Failed by its exit codes, whatever its restart policy (getPhase,
    pkg/kubelet/kubelet_pods.go). By that policy it would have run on: its end is not the consumer's pod's. A reason, as
    Evicted or DeadlineExceeded, says that it ended before it was deleted.
    """
    status = remote["status"]
    if not remote["metadata"].get("deletionTimestamp") or pod["metadata"].get("deletionTimestamp"):
        return False
    ending = {"Always": TERMINAL_PHASES, "OnFailure": frozenset({"Failed"})}
    policy = pod["spec"].get("restartPolicy", "Always")
    return not status.get("reason") and status.get("phase") in ending.get(policy, frozenset())
