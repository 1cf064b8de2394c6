"""Names that the two clusters share: labels, annotations and derived object names, all within Kubernetes' limits."""

from __future__ import annotations

import hashlib
from typing import Final

DOMAIN: Final = "isthmus.dev"
PREFIX: Final = "offloading.isthmus.dev/"

NODE_LABEL: Final = PREFIX + "node"
CONSUMER_LABEL: Final = PREFIX + "consumer"
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "isthmus"

ORIGIN_NAMESPACE: Final = PREFIX + "origin-namespace"
ORIGIN_NAME: Final = PREFIX + "origin-name"
ORIGIN_UID: Final = PREFIX + "origin-uid"
ORIGIN_LABELS: Final = PREFIX + "origin-labels"
ORIGIN_ANNOTATIONS: Final = PREFIX + "origin-annotations"
CARRIED: Final = PREFIX + "carried"
"""What of the consumer's pod the remote pod was last given: see `record`."""
RESTART_BASE: Final = PREFIX + "restart-base"
"""JSON object, container name -> restarts already counted before this remote pod existed."""

REMOTE_SCHEDULED: Final = PREFIX + "RemoteScheduled"
"""Condition type on the consumer's pod while the provider finds no node for the remote pod."""

REFUSED_REASON: Final = "OffloadRefused"
"""Reason in the status of a pod that can't run at the provider."""

MIRROR_ANNOTATION: Final = "kubernetes.io/config.mirror"
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
ROOT_CA: Final = "kube-root-ca.crt"

_MAX_LABEL_VALUE = 63
_MAX_OBJECT_NAME = 253


def is_ours(key: str) -> bool:
    """Say whether a label or annotation key belongs to this project (its prefix is our domain or below it)."""
    if DOMAIN not in key:
        return False
    prefix = key.partition("/")[0]
    return prefix == DOMAIN or prefix.endswith("." + DOMAIN)


def label_value(text: str) -> str:
    """Fit a DNS name into a label value: itself up to 63 characters, else its start and a hash of the whole."""
    return _shorten(text, _MAX_LABEL_VALUE)


def token_secret_name(pod_name: str, uid: str) -> str:
    """Name the Secret at the provider that holds the tokens of one pod incarnation."""
    return _shorten(pod_name, _MAX_OBJECT_NAME - 16) + "-token-" + digest(uid, size=4)


def root_ca_name(consumer_id: str) -> str:
    """Name the reflected copy of `kube-root-ca.crt`: under its own name the provider keeps the provider's CA."""
    return ROOT_CA + "-" + label_value(consumer_id).lower()


def mirror_annotation(field_path: str) -> str:
    """Name the annotation of the remote pod that holds the consumer's value of a downward API field."""
    known = _MIRRORS.get(field_path)
    return known if known is not None else PREFIX + "field-" + digest(field_path, size=8)


def digest(text: str, *, size: int) -> str:
    """Hash text to `size` bytes, in hexadecimal. It tells values apart; it protects nothing."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).hexdigest()


_MIRRORS: Final = {
    "metadata.namespace": ORIGIN_NAMESPACE,
    "metadata.uid": ORIGIN_UID,
    "metadata.labels": ORIGIN_LABELS,
    "metadata.annotations": ORIGIN_ANNOTATIONS,
}


def _shorten(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return text[: limit - 9].rstrip("-._") + "-" + digest(text, size=4)
