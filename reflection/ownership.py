"""Whose a remote object is, and of what it is the copy. Pure."""

from __future__ import annotations

from kube.objects import Metadata
from kube.store import Key
from reflection.forge import names

USED_BY_PREFIX = "used-by.offloading.isthmus.dev/"


def node_selector(node_name: str) -> str:
    """Label selector of all that one virtual node made."""
    return f"{names.NODE_LABEL}={names.label_value(node_name)}"


def consumer_selector(consumer_id: str) -> str:
    """Label selector of all that any virtual node of this consumer made."""
    return f"{names.CONSUMER_LABEL}={names.label_value(consumer_id)}"


def origin_key(metadata: Metadata) -> Key | None:
    """The consumer's key of a remote object, or None if it does not say."""
    annotations = metadata.annotations
    namespace, name = annotations.get(names.ORIGIN_NAMESPACE), annotations.get(names.ORIGIN_NAME)
    return (namespace, name) if namespace and name else None


def origin_uid(metadata: Metadata) -> str | None:
    """UID of the consumer's object that this remote object is for."""
    return metadata.annotations.get(names.ORIGIN_UID)


def used_by(node_name: str) -> str:
    """Annotation by which a virtual node says that it needs a copy: several nodes may share one."""
    return f"{USED_BY_PREFIX}{names.label_value(node_name)}"


def other_users(metadata: Metadata, node_name: str) -> bool:
    """Whether another virtual node of this consumer needs the copy too."""
    own = used_by(node_name)
    return any(key.startswith(USED_BY_PREFIX) and key != own for key in metadata.annotations)


def is_ours(metadata: Metadata, consumer_id: str) -> bool:
    """Whether this consumer made the object."""
    return metadata.labels.get(names.CONSUMER_LABEL) == names.label_value(consumer_id)
