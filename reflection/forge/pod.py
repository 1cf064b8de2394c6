"""The remote pod: what the provider is asked to run for a pod of the consumer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from reflection.forge import fields, metadata, names
from reflection.forge.containers import containers, resources
from reflection.forge.dns import name_service
from reflection.forge.model import ForgeContext, ForgedPod, Json, Refused
from reflection.forge.references import references
from reflection.forge.volumes import volumes
from reflection.forge.walk import Job, Translator, apply

_PLATFORM_KEYS: Final = frozenset({"kubernetes.io/os", "kubernetes.io/arch"})
"""Node labels that mean the same in every cluster and without which a pod's programs can't run."""


def is_mirror(pod: Json) -> bool:
    """Say whether a pod only shows a static pod of a kubelet; such pods are nobody's to run (pkg/kubelet/types)."""
    return names.MIRROR_ANNOTATION in (pod["metadata"].get("annotations") or {})


def forge_pod(pod: Json, *, context: ForgeContext, restart_base: Mapping[str, int] | None = None) -> ForgedPod:
    """Make the remote pod for a consumer pod bound to our node.

    `restart_base` tells restarts by container that the consumer's status already counts, where an earlier remote pod
    of the same consumer pod is replaced. Raises Refused if the pod can't run at the provider as it is. The body may
    share parts with `pod`; neither is to be modified.
    """
    if is_mirror(pod):
        raise Refused("metadata.annotations", "a mirror pod of a static pod is not run by this node")
    job = Job.of(pod, context=context)
    spec = _forge_spec(job)
    annotations = remote_annotations(job)
    if restart_base:
        annotations[names.RESTART_BASE] = msgspec.json.encode(restart_base).decode()
    metadata.check_size(annotations)
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod["metadata"]["name"],
            "namespace": context.remote_namespace,
            "labels": remote_labels(job),
            "annotations": annotations,
        },
        "spec": spec,
    }
    needed = references(pod, api_access=context.api_access is not None)
    return ForgedPod(body, needed, tuple(job.notes), tuple(job.tokens))


def remote_labels(job: Job) -> dict[str, str]:
    """Give the user's labels and ours; the user's own `managed-by` stands, selectors may rest on it."""
    return {names.MANAGED_BY_LABEL: names.MANAGED_BY, **job.labels, **job.context.labels}


def remote_annotations(job: Job) -> dict[str, str]:
    """Give the user's annotations and ours, once the spec is forged and has said what it needs mirrored."""
    return {
        **job.annotations,
        **job.mirrors,
        **metadata.origin(job.pod["metadata"]),
        names.CARRIED: metadata.encode_record(metadata.record(job.pod)),
    }


def _forge_spec(job: Job) -> dict[str, Any]:
    spec = job.pod["spec"]
    # Volumes come first: mounts of containers depend on which are left.
    forged_volumes = volumes(spec.get("volumes") or [], job, "spec.volumes")
    out = apply(spec, fields.POD_SPEC, SPEC_TRANSLATORS, job=job, path="spec")
    if forged_volumes is not None:
        out["volumes"] = forged_volumes
    if job.context.node_selector:
        out["nodeSelector"] = {**out.get("nodeSelector", {}), **job.context.node_selector}
    out.update(name_service(spec, namespace=job.pod["metadata"]["namespace"], context=job.context))
    out["automountServiceAccountToken"] = False
    out["enableServiceLinks"] = False
    return out


def _none(_value: Any, _job: Job, _path: str) -> None:
    """Leave the field out here: it is treated elsewhere."""


def _same(value: Any, _job: Job, _path: str) -> Any:
    """Set by `name_service` where it is not the user's own."""
    return value


def _off(_value: Any, _job: Job, _path: str) -> bool:
    return False


def _node_selector(value: Mapping[str, str] | None, _job: Job, _path: str) -> dict[str, str] | None:
    return {key: wanted for key, wanted in (value or {}).items() if key in _PLATFORM_KEYS} or None


def _runtime_class(value: str | None, job: Job, path: str) -> str | None:
    if not value:
        return None
    known = job.context.runtime_classes.get(value)
    if known is None:
        raise Refused(path, f'no RuntimeClass of the provider is configured for "{value}"; remove it or map it')
    return known or None


def _affinity(value: Json | None, job: Job, path: str) -> dict[str, Any] | None:
    return apply(value or {}, fields.AFFINITY, AFFINITY_TRANSLATORS, job=job, path=path) or None


def _node_affinity(value: Json | None, _job: Job, _path: str) -> dict[str, Any] | None:
    """Keep what all alternatives of the required node affinity say of the platform.

    Terms are alternatives: one that says nothing of the platform allows any, and then there is nothing to keep.
    """
    required = (value or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = []
    for term in required.get("nodeSelectorTerms") or ():
        wanted = [one for one in term.get("matchExpressions") or () if one.get("key") in _PLATFORM_KEYS]
        if not wanted:
            return None
        terms.append({"matchExpressions": wanted})
    if not terms:
        return None
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}


SPEC_TRANSLATORS: Final[dict[str, Translator]] = {
    "affinity": _affinity,
    "containers": containers,
    "init_containers": containers,
    "node_selector": _node_selector,
    "none": _none,
    "off": _off,
    "resources": resources,
    "runtime_class": _runtime_class,
    "same": _same,
    "volumes": _none,
}
AFFINITY_TRANSLATORS: Final[dict[str, Translator]] = {"node_affinity": _node_affinity}
