"""Writing the provider's status to the consumer's object."""

from __future__ import annotations

from typing import Any

from kube.client import Client
from kube.errors import ApiError
from reflection.kinds import body
from reflection.kinds.document import Document
from reflection.kinds.model import Context, Json, Kind


async def write(consumer: Client, kind: Kind, local: Document, remote: Document, context: Context) -> None:
    """Make the consumer's status what the kind says; writes nothing if it is. An object that is gone is no error."""
    if kind.status_back is not None:
        await _write(consumer, kind, local, kind.status_back(remote.json(), local.json(), context))


async def clear(consumer: Client, kind: Kind, local: Document, context: Context) -> None:
    """The copy is no more: take away what the consumer's status says of it."""
    if kind.status_gone is not None:
        await _write(consumer, kind, local, kind.status_gone(local.json(), context))


async def _write(consumer: Client, kind: Kind, local: Document, wanted: Json | None) -> None:
    document = local.json()
    status = document.get("status") or {}
    if wanted is None or ("status" not in kind.exact and body.contains(status, wanted)):
        return
    patch = merge_patch(status, wanted)
    if not patch:
        return
    meta = local.metadata
    try:
        await consumer.patch(
            kind.resource,
            {"metadata": {"uid": meta.uid}, "status": patch},
            name=meta.name,
            namespace=meta.namespace,
            subresource="status",
        )
    except ApiError as error:
        if not error.not_found and not error.conflict:
            raise


def merge_patch(current: Json, wanted: Json) -> Json:
    """The RFC 7396 patch that turns `current` into `wanted`; empty if they are equal."""
    patch: dict[str, Any] = dict.fromkeys(current.keys() - wanted.keys())
    for key, value in wanted.items():
        old = current.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            inner = merge_patch(old, value)
            if inner:
                patch[key] = inner
        elif old != value:
            patch[key] = value
    return patch
