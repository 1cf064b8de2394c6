"""The provider's object as a whole: metadata, marks and the parts that a kind forged; and whether it is in step. Pure.

Writes are POST, and PUT with the resourceVersion that was looked at. Not server-side apply: an apply makes what is not
there and joins what is, so between looking and writing it could take over an object that somebody else has just made
under the name, and there is no precondition "must not exist". What a PUT would lose, others' labels, annotations,
finalizers and owners, is carried over from the object that was looked at; what the API server allocates (cluster IPs,
node ports) it keeps by itself where a PUT leaves it out.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec

from kube.objects import Metadata
from kube.resources import Resource
from reflection.forge import names
from reflection.kinds import marks
from reflection.kinds.model import Copy, Json

DROPPED_ANNOTATIONS: Final = (
    names.LAST_APPLIED,
    # What tools of the consumer use to find what they made: at the provider they would prune it or fight for it.
    "argocd.argoproj.io/*",
    "meta.helm.sh/*",
    "kustomize.toolkit.fluxcd.io/*",
    "helm.toolkit.fluxcd.io/*",
    # Notes of controllers and clouds about the consumer's own object.
    "endpoints.kubernetes.io/*",
    "cloud.google.com/neg*",
    "ingress.kubernetes.io/backends",
    "ingress.kubernetes.io/forwarding-rule",
    "ingress.kubernetes.io/target-proxy",
    "ingress.kubernetes.io/url-map",
    "kubernetes.digitalocean.com/load-balancer-id",
    "loadbalancer.openstack.org/load-balancer-id",
    "metallb.universe.tf/*",
    "metallb.io/*",
)
_IDENTITY: Final = frozenset({names.ORIGIN_NAMESPACE, names.ORIGIN_NAME, names.ORIGIN_UID})
DROPPED_LABELS: Final = (
    "argocd.argoproj.io/*",
    "kustomize.toolkit.fluxcd.io/*",
    "helm.toolkit.fluxcd.io/*",
)


@dataclass(frozen=True, slots=True)
class Filters:
    """Labels and annotations that stay at home, with `*` and `?`; isthmus' own never travel."""

    labels: tuple[str, ...] = DROPPED_LABELS
    annotations: tuple[str, ...] = DROPPED_ANNOTATIONS


@dataclass(frozen=True, slots=True)
class Wanted:
    """A forged object, complete but for the name of its namespace's history."""

    resource: Resource
    name: str
    namespace: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    parts: Mapping[str, Any]
    record: str
    """Annotation text: which labels and annotations are ours, and a digest of all that was wanted."""


def wanted(
    copy: Copy, *, resource: Resource, origin: Metadata, remote_namespace: str, consumer_id: str, filters: Filters
) -> Wanted:
    """Complete what a kind forged for the consumer's object `origin`."""
    labels = carried(origin.labels if copy.labels is None else copy.labels, filters.labels)
    annotations = carried(origin.annotations if copy.annotations is None else copy.annotations, filters.annotations)
    content = names.digest(msgspec.json.encode([labels, annotations, copy.parts], order="sorted").decode(), size=10)
    record = {"labels": sorted(labels), "annotations": sorted(annotations), "content": content}
    return Wanted(
        resource=resource,
        name=origin.name,
        namespace=remote_namespace,
        labels={
            **labels,
            names.MANAGED_BY_LABEL: names.MANAGED_BY,
            names.CONSUMER_LABEL: names.label_value(consumer_id),
        },
        annotations={
            **annotations,
            names.ORIGIN_NAMESPACE: origin.namespace,
            names.ORIGIN_NAME: origin.name,
            names.ORIGIN_UID: origin.uid,
            marks.MADE: "",
        },
        parts=copy.parts,
        record=msgspec.json.encode(record, order="sorted").decode(),
    )


def carried(values: Mapping[str, str], dropped: Iterable[str]) -> dict[str, str]:
    """What of a user's labels or annotations travels."""
    patterns = tuple(dropped)
    return {
        key: value
        for key, value in values.items()
        if not names.is_ours(key)
        and key != names.MANAGED_BY_LABEL
        and not any(fnmatchcase(key, pattern) for pattern in patterns)
    }


def new(want: Wanted) -> Json:
    """The body of a POST."""
    return _body(
        want,
        {
            "name": want.name,
            "namespace": want.namespace,
            "labels": dict(want.labels),
            "annotations": {**want.annotations, names.CARRIED: want.record},
        },
    )


def changed(want: Wanted, current: Metadata) -> Json:
    """The body of a PUT over the object that was looked at; refused by the server if that has changed since."""
    ours = _record(current)
    metadata: Json = msgspec.to_builtins(current)
    metadata["labels"] = {**_others(current.labels, ours, "labels"), **want.labels}
    metadata["annotations"] = {
        **_others(current.annotations, ours, "annotations"),
        **want.annotations,
        names.CARRIED: want.record,
    }
    return _body(want, metadata)


def released(current: Metadata) -> Json:
    """A merge patch that takes the engine's mark off a copy which others still need."""
    ours = _record(current)
    return {
        "metadata": {
            "resourceVersion": current.resource_version,
            "labels": dict.fromkeys(ours.get("labels") or ()),
            "annotations": {
                **dict.fromkeys(key for key in ours.get("annotations") or () if key not in _IDENTITY),
                marks.MADE: None,
                names.CARRIED: None,
            },
        }
    }


def in_step(want: Wanted, current: Json, *, exact: Container[str] = ()) -> bool:
    """Whether the provider's object holds all that is wanted, and nothing that was wanted before and is no more.

    In the parts named `exact` it must hold nothing else either.
    """
    metadata = current["metadata"]
    annotations = metadata.get("annotations") or {}
    if annotations.get(names.CARRIED) != want.record:
        return False
    if not contains(metadata.get("labels") or {}, want.labels) or not contains(annotations, want.annotations):
        return False
    return all(
        (current.get(part) or {}) == (value or {}) if part in exact else contains(current.get(part), value)
        for part, value in want.parts.items()
    )


def contains(current: Any, wanted: Any) -> bool:
    """Whether `current` is `wanted`, but for fields that the server or others added. Empty counts as absent."""
    if wanted is None or wanted in ("", {}, []):
        return current in (None, "", {}, [])
    if isinstance(wanted, Mapping):
        if not isinstance(current, Mapping):
            return _nothing(wanted) and current is None
        return all(contains(current.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list | tuple):
        return isinstance(current, list | tuple) and len(current) == len(wanted) and all(map(contains, current, wanted))
    if current is None and wanted in (False, 0):
        return True
    return bool(current == wanted)


def _nothing(wanted: Mapping[str, Any]) -> bool:
    return all(contains(None, value) for value in wanted.values())


def _body(want: Wanted, metadata: Json) -> Json:
    resource = want.resource
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **want.parts}


def _record(current: Metadata) -> Mapping[str, Any]:
    try:
        found = msgspec.json.decode(current.annotations.get(names.CARRIED, "{}"))
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _others(values: Mapping[str, str], ours: Mapping[str, Any], field_name: str) -> dict[str, str]:
    mine = ours.get(field_name)
    known = frozenset(mine) if isinstance(mine, list) else frozenset()
    return {key: value for key, value in values.items() if key not in known}


def is_made(current: Metadata) -> bool:
    """Whether the engine wrote this copy (others make copies of ConfigMaps and Secrets too)."""
    return marks.MADE in current.annotations
