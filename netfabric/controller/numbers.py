"""Numbers of nodes and gateways, which make the addresses and identifiers of links: kept for life in a ConfigMap.

Another leader has to come to the same, or every link would change under running connections.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec
import structlog

from kube.client import Client
from kube.errors import ApiError
from kube.objects import ConfigMap
from kube.resources import CONFIG_MAPS
from netfabric.controller.links import MOST_GATEWAYS, MOST_NODES

log = structlog.get_logger(__name__)

NAME = "isthmus-network-numbers"
_KEYS = {"nodes": range(1, MOST_NODES + 1), "gateways": range(MOST_GATEWAYS)}


def assign(held: Mapping[str, int], names: Collection[str], *, among: range) -> dict[str, int]:
    """A number for each name: the one it has, or the first that is free. Those that get none are left out. Pure."""
    made: dict[str, int] = {}
    for name in sorted(names):
        number = held.get(name)
        if number is not None and number in among and number not in made.values():
            made[name] = number
    taken = set(made.values())
    free = (number for number in among if number not in taken)
    for name in sorted(names):
        if name not in made:
            number = next(free, None)
            if number is None:
                break
            made[name] = number
    return made


class Numbers:
    """Reads once, writes when something is new."""

    def __init__(self, client: Client, *, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._held: dict[str, dict[str, int]] | None = None

    async def of(self, *, nodes: Collection[str], gateways: Collection[str]) -> tuple[dict[str, int], dict[str, int]]:
        """Numbers of these nodes and gateways, kept before they are told. Raises `KubeError`."""
        if self._held is None:
            self._held = await self._read()
        wanted = {
            "nodes": assign(self._held.get("nodes", {}), nodes, among=_KEYS["nodes"]),
            "gateways": assign(self._held.get("gateways", {}), gateways, among=_KEYS["gateways"]),
        }
        if wanted != self._held:
            await self._write(wanted)
            self._held = wanted
        return wanted["nodes"], wanted["gateways"]

    async def _read(self) -> dict[str, dict[str, int]]:
        try:
            found = await self._client.get(CONFIG_MAPS, namespace=self._namespace, name=NAME, decode=ConfigMap)
        except ApiError as error:
            if error.not_found:
                return {}
            raise
        return {key: _decode(found.data.get(key, "")) for key in _KEYS}

    async def _write(self, wanted: Mapping[str, Mapping[str, int]]) -> None:
        data = {key: msgspec.json.encode(value).decode() for key, value in wanted.items()}
        metadata = {"name": NAME, "namespace": self._namespace, "labels": {"app.kubernetes.io/managed-by": "isthmus"}}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        await self._client.apply(
            CONFIG_MAPS, body, namespace=self._namespace, name=NAME, field_manager="isthmus-network"
        )


def _decode(text: str) -> dict[str, int]:
    try:
        return msgspec.json.decode(text, type=dict[str, int])
    except msgspec.DecodeError:
        if text:
            log.error("numbers of links not readable: links are numbered anew", config_map=NAME)
        return {}
