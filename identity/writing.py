"""Writes to our own objects: finalizers and statuses, on the object that was seen and by nobody but the leader."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from identity import names
from kube.client import Client
from kube.errors import ApiError
from kube.objects import Metadata
from kube.resources import Resource


class Written(Protocol):
    """An object with metadata."""

    @property
    def metadata(self) -> Metadata:
        """Its name, UID and version."""


T = TypeVar("T", bound=Written)


class Own(Generic[T]):
    """One kind of ours. `check_leading` raises if this process may not write (any more)."""

    def __init__(
        self, client: Client, resource: Resource, *, decode: type[T], check_leading: Callable[[], None]
    ) -> None:
        self._client = client
        self._resource = resource
        self._decode = decode
        self._check_leading = check_leading

    async def set_finalizers(self, one: T, finalizers: Iterable[str]) -> T | None:
        """Set them in the very state that we know; None if the object is gone. Raises `ApiError`, 409 if it changed."""
        meta = one.metadata
        body = {"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": [*finalizers]}}
        self._check_leading()
        try:
            return await self._client.patch(
                self._resource, body, name=meta.name, namespace=meta.namespace or None, decode=self._decode
            )
        except ApiError as error:
            if error.not_found:
                return None
            raise

    async def write(self, one: T, status: msgspec.Struct, *, unchanged: bool) -> T:
        """Write the status; with `unchanged` only in the very state that we know. Raises `ApiError`."""
        meta = one.metadata
        seen: dict[str, Any] = {"name": meta.name, "uid": meta.uid}
        if meta.namespace:
            seen["namespace"] = meta.namespace
        if unchanged:
            seen["resourceVersion"] = meta.resource_version
        body = {
            "apiVersion": self._resource.api_version,
            "kind": self._resource.kind,
            "metadata": seen,
            "status": msgspec.to_builtins(status),
        }
        self._check_leading()
        return await self._client.apply(
            self._resource,
            body,
            name=meta.name,
            namespace=meta.namespace or None,
            subresource="status",
            field_manager=names.FIELD_MANAGER,
            decode=self._decode,
        )

    async def say(self, one: T, status: msgspec.Struct, *, unchanged: bool = False) -> T | None:
        """`write`, and None if the object is gone or was changed: then it is looked at again anyway."""
        try:
            return await self.write(one, status, unchanged=unchanged)
        except ApiError as error:
            if error.not_found or error.conflict:
                return None
            raise
