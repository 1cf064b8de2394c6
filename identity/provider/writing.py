"""Making and keeping the objects of a Tenant, each only if it is not there as it should be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from identity import names
from kube.client import Client
from kube.errors import ApiError
from kube.resources import ROLE_BINDINGS, Resource

Json = dict[str, Any]


class Writer:
    """`check_leading` raises if this process may not write (any more)."""

    def __init__(self, client: Client, *, check_leading: Callable[[], None]) -> None:
        self._client = client
        self._check_leading = check_leading

    async def read(self, resource: Resource, name: str, namespace: str | None = None) -> Json | None:
        """An object, None if it is not there."""
        return await self._client.find(resource, name=name, namespace=namespace)

    async def apply(self, resource: Resource, body: Json) -> None:
        """Server-side apply of what we say of it."""
        metadata = body["metadata"]
        self._check_leading()
        await self._client.apply(
            resource,
            body,
            name=metadata["name"],
            namespace=metadata.get("namespace"),
            field_manager=names.FIELD_MANAGER,
        )

    async def ensure(self, resource: Resource, body: Json, *, same: Callable[[Json], object]) -> None:
        """Apply it unless what is there shows the `same` as it."""
        metadata = body["metadata"]
        found = await self.read(resource, metadata["name"], metadata.get("namespace"))
        if found is None or same(found) != same(body):
            await self.apply(resource, body)

    async def bind(self, body: Json) -> None:
        """A RoleBinding with exactly these subjects. What a binding refers to cannot be changed: it is made anew."""
        metadata = body["metadata"]
        found = await self.read(ROLE_BINDINGS, metadata["name"], metadata["namespace"])
        if found is not None:
            if found.get("roleRef") == body["roleRef"] and found.get("subjects") == body["subjects"]:
                return
            await self.delete(ROLE_BINDINGS, metadata["name"], metadata["namespace"])
        self._check_leading()
        await self._client.create(ROLE_BINDINGS, body, namespace=metadata["namespace"])

    async def delete(
        self, resource: Resource, name: str, namespace: str | None = None, *, uid: str | None = None
    ) -> bool:
        """Delete it; whether it was there."""
        self._check_leading()
        try:
            await self._client.delete(resource, name=name, namespace=namespace, uid=uid)
        except ApiError as error:
            if error.not_found or error.conflict:
                return False
            raise
        return True

    async def delete_labelled(self, resource: Resource, namespace: str, selector: str) -> int:
        """Delete those of a namespace with these labels; how many there were."""
        listing = await self._client.list(resource, namespace=namespace, label_selector=selector, missing_ok=True)
        for item in listing.items:
            if not item["metadata"].get("deletionTimestamp"):
                await self.delete(resource, item["metadata"]["name"], namespace, uid=item["metadata"]["uid"])
        return len(listing.items)
