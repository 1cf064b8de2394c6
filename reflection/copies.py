"""Turning a consumer's ConfigMap or Secret into its copy at the provider. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kube.objects import ConfigMap, Metadata, Secret
from reflection import ownership
from reflection.forge import names

# Types by which an API server or its controllers would mint or honour credentials (abuse test A24).
TOKEN_TYPES = frozenset({"kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"})


class NotReflectableError(Exception):
    """This object must not leave the consumer; the text says why and what to do."""


def forge_config_map(source: ConfigMap, *, namespace: str, name: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The provider's ConfigMap for `source`."""
    body: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {**metadata, "name": name, "namespace": namespace},
        "data": source.data,
        "binaryData": source.binary_data,
    }
    if source.immutable:
        body["immutable"] = True
    return body


def forge_secret(source: Secret, *, namespace: str, name: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The provider's Secret for `source`; raises `NotReflectableError` for types that are credentials of a cluster."""
    if source.type in TOKEN_TYPES:
        raise NotReflectableError(
            f"Secret {source.metadata.namespace}/{source.metadata.name} has type {source.type}: "
            "tokens of the consumer cluster are not copied to a provider; use --api-access and a projected token"
        )
    body: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {**metadata, "name": name, "namespace": namespace},
        "type": source.type or "Opaque",
        "data": source.data,
    }
    if source.immutable:
        body["immutable"] = True
    return body


def copy_metadata(origin: Metadata, *, consumer_id: str, node_name: str) -> dict[str, Any]:
    """Labels and annotations of a copy: whose it is, of what, and which virtual node needs it."""
    return {
        "labels": {
            names.MANAGED_BY_LABEL: names.MANAGED_BY,
            names.CONSUMER_LABEL: names.label_value(consumer_id),
        },
        "annotations": {
            names.ORIGIN_NAMESPACE: origin.namespace,
            names.ORIGIN_NAME: origin.name,
            names.ORIGIN_UID: origin.uid,
            ownership.used_by(node_name): "",
        },
    }


def in_step(source: ConfigMap | Secret, copy: ConfigMap | Secret, node_name: str) -> bool:
    """Whether `copy` holds what `source` holds, and says that this node needs it."""
    if isinstance(source, Secret) and isinstance(copy, Secret):
        same = source.data == copy.data and (source.type or "Opaque") == (copy.type or "Opaque")
    elif isinstance(source, ConfigMap) and isinstance(copy, ConfigMap):
        same = source.data == copy.data and source.binary_data == copy.binary_data
    else:
        return False
    return (
        same
        and bool(source.immutable) == bool(copy.immutable)
        and ownership.used_by(node_name) in copy.metadata.annotations
        and copy.metadata.annotations.get(names.ORIGIN_UID) == source.metadata.uid
    )


def needs_replacement(source: ConfigMap | Secret, copy: ConfigMap | Secret) -> bool:
    """Whether the copy can't be updated in place: immutable, or a Secret of another type."""
    if isinstance(source, Secret) and isinstance(copy, Secret) and (source.type or "Opaque") != (copy.type or "Opaque"):
        return True
    return bool(copy.immutable) and not (
        source.immutable and source.metadata.uid == copy.metadata.annotations.get(names.ORIGIN_UID)
    )
