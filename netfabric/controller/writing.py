"""Statuses, written as the least that differs, and only over what was read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from kube.client import Client
from kube.objects import Metadata
from kube.resources import Resource

Json = dict[str, Any]


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> Json:
    """What RFC 7386 needs to turn one into the other: what has gone is null, lists are whole."""
    made: Json = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            inner = merge_patch(before, value)
            if inner:
                made[key] = inner
        elif before != value:
            made[key] = value
    return made


async def write_status(
    client: Client,
    resource: Resource,
    metadata: Metadata,
    *,
    old: msgspec.Struct,
    new: msgspec.Struct,
    check: Callable[[], None],
) -> bool:
    """Whether anything differed and was written. Raises `KubeError`: 409 if somebody changed the object since."""
    body = merge_patch(msgspec.to_builtins(old), msgspec.to_builtins(new))
    if not body:
        return False
    check()
    precondition = {"resourceVersion": metadata.resource_version, "uid": metadata.uid}
    await client.patch(resource, {"metadata": precondition, "status": body}, name=metadata.name, subresource="status")
    return True
