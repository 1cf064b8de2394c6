"""Writing parts of a NamespaceOffloading's status, each writer its own (server-side apply)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api.offloading.definitions import NAMESPACE_OFFLOADINGS
from api.offloading.namespaces import NamespaceOffloading
from kube.client import Client
from kube.errors import ApiError


@dataclass(frozen=True, slots=True)
class Answer:
    """The virtual kubelet's part of an entry of `status.providers`."""

    ready: bool
    reason: str
    message: str


async def write(
    client: Client, offloading: NamespaceOffloading, status: Mapping[str, Any], *, manager: str
) -> NamespaceOffloading | None:
    """Apply a part of the status; None if the object is gone, or another one has its name by now."""
    metadata = offloading.metadata
    body = {
        "apiVersion": NAMESPACE_OFFLOADINGS.api_version,
        "kind": NAMESPACE_OFFLOADINGS.kind,
        "metadata": {"name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid},
        "status": status,
    }
    try:
        return await client.apply(
            NAMESPACE_OFFLOADINGS,
            body,
            name=metadata.name,
            namespace=metadata.namespace,
            subresource="status",
            field_manager=manager,
            decode=NamespaceOffloading,
        )
    except ApiError as error:
        if error.not_found or error.status == 409:
            return None
        raise
