"""Labels and annotations: which travel, what the downward API says of them, and the record of what was sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from reflection.forge import names
from reflection.forge.model import Json, Refused

ANNOTATIONS_LIMIT: Final = 256 * 1024
"""Bytes of all keys and values together, k8s.io/apimachinery pkg/api/validation TotalAnnotationSizeLimitB."""

_NOT_CARRIED: Final = frozenset(
    {
        names.LAST_APPLIED,
        # What a kubelet notes on its own copies of pods; from another cluster it would only mislead.
        names.MIRROR_ANNOTATION,
        "kubernetes.io/config.hash",
        "kubernetes.io/config.seen",
        "kubernetes.io/config.source",
    }
)
_SUBSCRIPTED = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]", re.DOTALL)


def carried_labels(meta: Json) -> dict[str, str]:
    """Pick the user's labels that the remote pod gets."""
    return {key: value for key, value in (meta.get("labels") or {}).items() if not names.is_ours(key)}


def carried_annotations(meta: Json) -> dict[str, str]:
    """Pick the user's annotations that the remote pod gets."""
    return {
        key: value
        for key, value in (meta.get("annotations") or {}).items()
        if key not in _NOT_CARRIED and not names.is_ours(key)
    }


def origin(meta: Json) -> dict[str, str]:
    """Say by annotations whose copy a remote pod is."""
    return {
        names.ORIGIN_NAMESPACE: meta["namespace"],
        names.ORIGIN_NAME: meta["name"],
        names.ORIGIN_UID: meta["uid"],
    }


def check_size(annotations: Mapping[str, str]) -> None:
    """Refuse annotations that the provider would not store; text of the downward API counts double by then."""
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if size > ANNOTATIONS_LIMIT:
        raise Refused(
            "metadata.annotations",
            f"{size} bytes with what the remote pod needs for the downward API, more than the {ANNOTATIONS_LIMIT} that "
            "Kubernetes allows; shorten the annotations or leave them out of downward API volumes",
        )


def subscripted(path: str) -> tuple[str, str] | None:
    """Split `metadata.labels['key']` into ("labels", "key"); None if it is no such path."""
    match = _SUBSCRIPTED.fullmatch(path)
    return (match[1], match[2]) if match else None


def field_value(meta: Json, path: str) -> str:
    """Give the text that a kubelet shows for a metadata field, k8s.io/kubernetes pkg/fieldpath."""
    split = subscripted(path)
    if split is not None:
        which, key = split
        return str((meta.get(which) or {}).get(key, ""))
    which = path.removeprefix("metadata.")
    if which in ("labels", "annotations"):
        return format_map(meta.get(which) or {})
    return str(meta.get(which, ""))


def format_map(values: Mapping[str, str]) -> str:
    """Write a map as downward API volumes do: sorted `key="value"` lines, quoted as by Go's strconv.Quote."""
    return "\n".join(f"{key}={quote(values[key])}" for key in sorted(values))


_ESCAPES: Final = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}


def quote(text: str) -> str:
    """Quote like Go's strconv.Quote."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(map(_quoted, text)) + '"'


def _quoted(char: str) -> str:
    known = _ESCAPES.get(char)
    if known is not None:
        return known
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def record(pod: Json) -> dict[str, Any]:
    """Note what a remote pod is given of the things that may change later.

    Kept on the remote pod, it tells a change at the consumer from one that the provider's admission made (which is
    left alone), and which labels and annotations were the consumer's when they are removed there.
    """
    meta, spec = pod["metadata"], pod["spec"]
    everything = {"labels": meta.get("labels") or {}, "annotations": meta.get("annotations") or {}}
    found: dict[str, Any] = {
        "labels": sorted(carried_labels(meta)),
        "annotations": sorted(carried_annotations(meta)),
        "metadata": _digest(everything),
    }
    images, resources = {}, {}
    for container in (*(spec.get("initContainers") or ()), *spec.get("containers", ())):
        images[container["name"]] = _digest(container.get("image"))
        if container.get("resources"):
            resources[container["name"]] = _digest(container["resources"])
    found["images"] = images
    if resources:
        found["resources"] = resources
    if spec.get("activeDeadlineSeconds") is not None:
        found["activeDeadlineSeconds"] = spec["activeDeadlineSeconds"]
    return found


def encode_record(found: Mapping[str, Any]) -> str:
    """Write a record as the text of its annotation."""
    return msgspec.json.encode(found).decode()


def decode_record(text: str | None) -> dict[str, Any]:
    """Read a record; empty if there is none or it is damaged, so that all is compared with the remote pod itself."""
    try:
        found = msgspec.json.decode(text or "{}")
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _digest(value: object) -> str:
    return names.digest(msgspec.json.encode(value, order="sorted").decode(), size=6)
