"""The VirtualNode of a ResourceSlice: it offers what is granted, and goes with the slice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from api.authentication.resource_slice import NEEDED, ResourceSlice
from api.offloading.definitions import VIRTUAL_NODES
from api.offloading.virtual_node import VirtualNode
from identity import names
from kube.client import Client
from kube.errors import ApiError

Json = dict[str, Any]

FIELD_MANAGER: Final = "isthmus-slices"


def name(one: ResourceSlice) -> str:
    """What the VirtualNode of a slice is called."""
    shape = one.spec.virtual_node
    return (shape.name if shape is not None else None) or one.metadata.name


def forge(one: ResourceSlice, granted: Mapping[str, str | int]) -> Json:
    """The VirtualNode of a slice. One that has nothing (any more) offers nothing: no resources would mean all. Pure."""
    shape = one.spec.virtual_node
    spec: Json = {
        "provider": one.spec.identity,
        "kubeconfigSecret": {"name": names.kubeconfig_secret(one.spec.identity)},
        "mode": "Managed",
        "resources": dict(granted) or dict.fromkeys(NEEDED, "0"),
    }
    if one.spec.node_selector:
        spec["nodeSelector"] = dict(one.spec.node_selector)
    if shape is not None and shape.labels:
        spec["labels"] = dict(shape.labels)
    if shape is not None and shape.taints:
        spec["taints"] = msgspec.to_builtins(shape.taints)
    return {
        "apiVersion": VIRTUAL_NODES.api_version,
        "kind": VIRTUAL_NODES.kind,
        "metadata": {
            "name": name(one),
            "labels": {names.SLICE_LABEL: one.metadata.uid, names.MANAGED_BY_LABEL: names.MANAGED_BY},
        },
        "spec": spec,
    }


class Nodes:
    """Makes and removes them. `check_leading` raises if this process may not write (any more)."""

    def __init__(self, client: Client, *, check_leading: Callable[[], None]) -> None:
        self._client = client
        self._check_leading = check_leading

    async def ensure(self, one: ResourceSlice, granted: Mapping[str, str | int]) -> str:
        """Have it as it is to be; what is in the way, empty if nothing. Raises `ApiError`."""
        wanted = forge(one, granted)
        found = await self._read(name(one))
        if found is not None:
            if found.metadata.labels.get(names.SLICE_LABEL) != one.metadata.uid:
                return f"VirtualNode {name(one)} is there and not of this slice: set spec.virtualNode.name to another"
            if found.metadata.deletion_timestamp or _agrees(found, wanted):
                return ""
        self._check_leading()
        await self._client.apply(VIRTUAL_NODES, wanted, name=name(one), field_manager=FIELD_MANAGER)
        return ""

    async def remove(self, one: ResourceSlice) -> str:
        """Remove those of the slice; the name of one that is still there, empty if none is. Raises `ApiError`."""
        selector = f"{names.SLICE_LABEL}={one.metadata.uid}"
        listing = await self._client.list(VIRTUAL_NODES, label_selector=selector, decode=VirtualNode, missing_ok=True)
        for found in listing.items:
            if not found.metadata.deletion_timestamp:
                self._check_leading()
                try:
                    await self._client.delete(VIRTUAL_NODES, name=found.metadata.name, uid=found.metadata.uid)
                except ApiError as error:
                    if not (error.not_found or error.conflict):
                        raise
        return listing.items[0].metadata.name if listing.items else ""

    async def _read(self, node: str) -> VirtualNode | None:
        return await self._client.find(VIRTUAL_NODES, name=node, decode=VirtualNode)


def _agrees(found: VirtualNode, wanted: Json) -> bool:
    """Whether what we say of it is so; what others say of it besides is theirs."""
    spec = msgspec.to_builtins(found.spec)
    return all(spec.get(key) == value for key, value in wanted["spec"].items() if key != "kubeconfigSecret")
