"""Telling the provider's side which namespace is called how: a ConfigMap that `isthmus dns` reads.

It is in the namespace of the election's Lease and written by who holds that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final

import structlog

from kube.client import Client
from kube.election import NotLeader
from kube.errors import KubeError
from kube.resources import CONFIG_MAPS
from reflection.forge import names
from reflection.kinds.owner import Ownership

log = structlog.get_logger(__name__)

CONFIG_MAP: Final = "isthmus-namespaces"
_LOOK: Final = 1.0
_RETRY: Final = 10.0
_AGAIN: Final = 600.0
"""Seconds after which it is written anew, in case somebody changed it."""


class PublishedNames:
    """Keeps the ConfigMap as `tell` last said. A provider that does not let us write it is asked again now and then."""

    def __init__(self, provider: Client, *, namespace: str, consumer_id: str, owner: Ownership) -> None:
        self._provider = provider
        self._namespace = namespace
        self._consumer_id = consumer_id
        self._owner = owner
        self._wanted: dict[str, str] | None = None
        self._written: dict[str, str] | None = None
        self._written_at = 0.0
        self._refused = ""

    def tell(self, namespaces: Mapping[str, str]) -> None:
        """All of the consumer's namespaces that are offloaded, and what they are called at the provider."""
        self._wanted = dict(namespaces)

    async def run(self) -> None:
        """Ends only by cancellation or a programming error."""
        while True:
            await self._owner.won()
            delay = _LOOK
            late = time.monotonic() - self._written_at > _AGAIN
            if self._wanted is not None and (self._written != self._wanted or late):
                delay = await self._write(self._wanted)
            await asyncio.sleep(delay)
            if not self._owner.leading:
                self._written = None  # another one writes meanwhile

    async def _write(self, wanted: dict[str, str]) -> float:
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": CONFIG_MAP,
                "labels": {
                    names.MANAGED_BY_LABEL: names.MANAGED_BY,
                    names.CONSUMER_LABEL: names.label_value(self._consumer_id),
                },
            },
            "data": wanted,
        }
        try:
            self._owner.check()
            await self._provider.apply(
                CONFIG_MAPS, body, name=CONFIG_MAP, namespace=self._namespace, field_manager="isthmus-kinds"
            )
        except NotLeader:
            return _LOOK
        except KubeError as error:
            if str(error) != self._refused:
                self._refused = str(error)
                log.info("names of namespaces not told: isthmus dns will not know them", error=self._refused)
            return _RETRY
        self._written, self._written_at, self._refused = wanted, time.monotonic(), ""
        return _LOOK
