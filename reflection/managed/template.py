"""From a forged pod to the ShadowPod that asks for it, and changes of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from api.offloading.definitions import SHADOW_PODS
from kube.objects import Object
from reflection.forge import names, sanitise

Json = dict[str, Any]

_OWN_LABELS: Final = (names.NODE_LABEL, names.CONSUMER_LABEL)
_OWN_ANNOTATIONS: Final = (names.ORIGIN_NAMESPACE, names.ORIGIN_NAME, names.ORIGIN_UID)
_CONTAINERS: Final = ("initContainers", "containers", "ephemeralContainers")


def shadow(body: Mapping[str, Any]) -> Json:
    """The ShadowPod for a forged pod. It says itself whose it is, as the pod will."""
    meta = body["metadata"]
    labels, annotations = meta["labels"], meta["annotations"]
    return {
        "apiVersion": SHADOW_PODS.api_version,
        "kind": SHADOW_PODS.kind,
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "labels": {names.MANAGED_BY_LABEL: names.MANAGED_BY, **_picked(labels, _OWN_LABELS)},
            "annotations": _picked(annotations, _OWN_ANNOTATIONS),
        },
        "spec": {"pod": {"metadata": {"labels": labels, "annotations": annotations}, "spec": body["spec"]}},
    }


def asked(remote: Object) -> Json:
    """The pod that a ShadowPod asks for, with the ShadowPod's own identity.

    Its labels are those of the template, but the ones by which ShadowPods are found are the ShadowPod's: where they
    are lost, they are put back.
    """
    template = _template(remote)
    meta = sanitise.mapping(template.get("metadata"))
    labels = {key: value for key, value in sanitise.mapping(meta.get("labels")).items() if key not in _OWN_LABELS}
    full = remote.metadata
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": full.name,
            "namespace": full.namespace,
            "uid": full.uid,
            "generation": full.generation,
            "labels": {**labels, **_picked(full.labels, _OWN_LABELS)},
            "annotations": dict(sanitise.mapping(meta.get("annotations"))),
        },
        "spec": dict(sanitise.mapping(template.get("spec"))),
        "status": {},
    }


def change(remote: Object, patch: Mapping[str, Any]) -> Json:
    """The merge patch of a ShadowPod for a strategic-merge patch of the pod that it asks for.

    Lists of containers are merged here by name, for a custom resource's API server can't.
    """
    meta = remote.metadata
    told = patch.get("metadata") or {}
    given = {key: told[key] for key in ("labels", "annotations") if told.get(key)}
    spec = _changed_spec(sanitise.mapping(_template(remote).get("spec")), patch.get("spec") or {})
    pod: Json = {**({"metadata": given} if given else {}), **({"spec": spec} if spec else {})}
    own = _picked(given.get("labels") or {}, _OWN_LABELS)
    return {
        "metadata": {
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
            **({"labels": own} if own else {}),
        },
        "spec": {"pod": pod},
    }


def _changed_spec(now: Mapping[str, Any], patch: Mapping[str, Any]) -> Json:
    found: Json = {key: value for key, value in patch.items() if key not in _CONTAINERS}
    for kind in _CONTAINERS:
        if kind in patch:
            found[kind] = _merged(sanitise.objects(now.get(kind), limit=256), patch[kind])
    return found


def _merged(now: Iterable[Mapping[str, Any]], changes: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    found = {one.get("name"): one for one in now}
    for one in changes:
        known = found.get(one["name"])
        found[one["name"]] = one if known is None else _deep(known, one)
    return list(found.values())


def _deep(known: Mapping[str, Any], change: Mapping[str, Any]) -> Json:
    made = dict(known)
    for key, value in change.items():
        both = isinstance(value, Mapping) and isinstance(made.get(key), Mapping)
        made[key] = _deep(made[key], value) if both else value
    return made


def _template(remote: Object) -> Mapping[str, Any]:
    spec = msgspec.json.decode(remote.spec) if remote.spec else {}
    return sanitise.mapping(sanitise.mapping(spec).get("pod"))


def _picked(values: Mapping[str, str], keys: Iterable[str]) -> dict[str, str]:
    return {key: values[key] for key in keys if key in values}
