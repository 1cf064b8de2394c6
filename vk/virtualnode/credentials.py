"""Keeps the kubeconfigs of providers while VirtualNodes need them.

A VirtualNode that goes needs its provider's kubeconfig to the last: its process ends the remote pods with it, and the
manager clears the provider. Whoever deletes everything at once deletes the Secret too; by a finalizer of ours it stays
until the last VirtualNode that names it is gone. A label tells the Secrets that we hold, so that those of VirtualNodes
that name another one now are found.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import structlog

from kube.client import Client
from kube.errors import ApiError
from kube.objects import Metadata, Secret, WithMetadata
from kube.resources import SECRETS

log = structlog.get_logger(__name__)

FINALIZER: Final = "offloading.isthmus.dev/in-use"
LABEL: Final = "offloading.isthmus.dev/provider-kubeconfig"


class Credentials:
    """The Secrets with providers' kubeconfigs, in our own namespace. Methods raise KubeError."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    async def hold(self, secret: Secret) -> None:
        """Keep it; nothing to do if it is kept already. One that is going can't be held any more (it was before)."""
        metadata = secret.metadata
        if metadata.deletion_timestamp is not None or (FINALIZER in metadata.finalizers and LABEL in metadata.labels):
            return
        finalizers = [*(name for name in metadata.finalizers if name != FINALIZER), FINALIZER]
        await self._write(metadata, finalizers, label="true")

    async def release(self, needed: Collection[str]) -> None:
        """Let go of all but these."""
        listing = await self._client.list(SECRETS, namespace=self._namespace, label_selector=LABEL, decode=WithMetadata)
        for item in listing.items:
            metadata = item.metadata
            if metadata.name not in needed:
                await self._write(metadata, [name for name in metadata.finalizers if name != FINALIZER], label=None)
                log.info("provider's kubeconfig no longer held", secret=metadata.name)

    async def _write(self, metadata: Metadata, finalizers: list[str], *, label: str | None) -> None:
        """Precondition: nobody has changed the Secret since it was read."""
        body = {
            "metadata": {
                "resourceVersion": metadata.resource_version,
                "finalizers": finalizers,
                "labels": {LABEL: label},
            }
        }
        try:
            await self._client.patch(SECRETS, body, name=metadata.name, namespace=self._namespace, decode=WithMetadata)
        except ApiError as error:
            if not error.not_found:
                raise
