"""Passing on what changed in a consumer's pod after its remote pod was made."""

from __future__ import annotations

from typing import Any

import structlog

from kube.errors import ApiError
from kube.objects import Object
from kube.store import Key
from reflection.forge import changes as forge_changes
from reflection.forge.model import ForgeContext
from reflection.ledger import Ledger
from reflection.remotes import Remotes
from reflection.reports import Reports

log = structlog.get_logger(__name__)


class Changer:
    """Sends the patches that `forge.changes` finds, in the order that loses nothing."""

    def __init__(self, remotes: Remotes, ledger: Ledger, reports: Reports) -> None:
        self._remotes = remotes
        self._ledger = ledger
        self._reports = reports

    async def pass_on(
        self, key: Key, origin: Object, pod: dict[str, Any], remote: Object, *, context: ForgeContext
    ) -> bool:
        """Bring the remote pod's mutable fields in step; a refusal for good is told on the pod, once.

        True if the remote pod, as given, has all that the consumer's asks for: then its status speaks of that.
        """
        generation = origin.metadata.generation or 0
        refused = bool(generation) and self._ledger[key].refused_generation == generation
        found = forge_changes.changes(pod, self._remotes.asked(remote), context=context)
        if not found:
            return not refused
        if not refused:
            self._reports.notes(origin, found.notes)
            for subresource, patch in (("ephemeralcontainers", found.ephemeral), ("resize", found.resize)):
                if patch is not None:
                    remote = await self._send_or_report(key, origin, patch, remote, subresource=subresource)
        if found.patch is not None:
            await self._send(key, found.patch, remote, subresource=None)
        return False

    async def _send_or_report(
        self, key: Key, origin: Object, patch: dict[str, Any], remote: Object, *, subresource: str
    ) -> Object:
        try:
            return await self._send(key, patch, remote, subresource=subresource)
        except ApiError as error:
            if error.retryable or error.conflict:
                raise
            log.warning("provider refused a change", pod=f"{key[0]}/{key[1]}", change=subresource, status=error.status)
            message = f"the provider refused the change ({subresource}): {error.message}"
            self._reports.event(origin, kind="Warning", reason="ChangeRefused", message=message)
            self._ledger[key].refused_generation = origin.metadata.generation or 0
            return remote

    async def _send(self, key: Key, patch: dict[str, Any], remote: Object, *, subresource: str | None) -> Object:
        updated = await self._remotes.change(remote, patch, subresource=subresource)
        self._ledger[key].remote_version = updated.metadata.resource_version
        return updated
