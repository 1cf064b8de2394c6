"""Writes to the provider: only what is ours, only in the state that was looked at, and only while we are the owner."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from kube.client import Client
from kube.errors import ApiError
from kube.store import Key
from reflection import ownership
from reflection.kinds import body, marks
from reflection.kinds.document import Document
from reflection.kinds.model import Kind

log = structlog.get_logger(__name__)


class ForeignObjectError(Exception):
    """The provider has an object of this name that is not the copy of the consumer's object."""

    def __init__(self, kind: str, key: Key) -> None:
        super().__init__(
            f"the provider has a {kind} {key[0]}/{key[1]} that isthmus did not make for this object; it is left alone: "
            "remove or rename one of the two"
        )


class Writer:
    """The objects of one kind. Errors of the provider are raised."""

    def __init__(
        self, provider: Client, kind: Kind, *, document: type[Document], consumer_id: str, check: Callable[[], None]
    ) -> None:
        self._provider = provider
        self._kind = kind
        self._document = document
        self._consumer_id = consumer_id
        self._check = check

    async def write(self, want: body.Wanted, current: Document | None) -> Document:
        """Make the provider's object hold what is wanted. Returns it as it is now. `ForeignObjectError`."""
        if current is None:
            self._check()
            try:
                return await self._create(want)
            except ApiError as error:
                if not error.already_exists:
                    raise
            current = await self._provider.get(
                self._kind.resource, name=want.name, namespace=want.namespace, decode=self._document
            )
        self._check_ours(want, current)
        now = current.json()
        if body.in_step(want, now, exact=self._kind.exact):
            return current
        if current.metadata.deletion_timestamp is not None:
            return current
        if self._kind.recreate({**want.parts, "metadata": {"annotations": dict(want.annotations)}}, now):
            await self.delete(current)
            self._check()
            return await self._create(want)
        return await self._replace(want, current)

    async def remove(self, current: Document) -> bool:
        """The engine wants the copy no more: remove it, or our mark where a pod still needs it; True if removed."""
        meta = current.metadata
        if not ownership.is_ours(meta, self._consumer_id) or meta.deletion_timestamp is not None:
            return False
        if any(key.startswith(ownership.USED_BY_PREFIX) and key != marks.MADE for key in meta.annotations):
            self._check()
            await self._provider.patch(
                self._kind.resource, body.released(meta), name=meta.name, namespace=meta.namespace
            )
            return False
        await self.delete(current)
        log.info("removed copy", kind=self._kind.name, namespace=meta.namespace, name=meta.name)
        return True

    async def delete(self, current: Document) -> None:
        """Delete a copy in the very state that we know."""
        meta = current.metadata
        self._check()
        try:
            await self._provider.delete(
                self._kind.resource,
                name=meta.name,
                namespace=meta.namespace,
                uid=meta.uid,
                resource_version=meta.resource_version,
            )
        except ApiError as error:
            if not error.not_found:
                raise

    async def _create(self, want: body.Wanted) -> Document:
        return await self._provider.create(
            self._kind.resource, body.new(want), namespace=want.namespace, decode=self._document
        )

    async def _replace(self, want: body.Wanted, current: Document) -> Document:
        self._check()
        return await self._provider.replace(
            self._kind.resource,
            body.changed(want, current.metadata),
            name=want.name,
            namespace=want.namespace,
            decode=self._document,
        )

    def _check_ours(self, want: body.Wanted, found: Document) -> None:
        """Ours is what bears our label *and* says that it is the copy of an object of this name."""
        meta = found.metadata
        origin = (want.annotations["offloading.isthmus.dev/origin-namespace"], want.name)
        if not ownership.is_ours(meta, self._consumer_id) or ownership.origin_key(meta) != origin:
            raise ForeignObjectError(self._kind.name, (want.namespace, want.name))
