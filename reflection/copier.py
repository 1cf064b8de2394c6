"""Reading, writing and removing copies of ConfigMaps and Secrets at the provider; foreign objects are left alone."""

from __future__ import annotations

from enum import Enum
from typing import Any

from kube.client import Client
from kube.errors import ApiError
from kube.objects import ConfigMap, Secret
from kube.resources import CONFIG_MAPS, SECRETS, Resource
from reflection import copies, ownership
from reflection.caches import RemoteCaches


class Kind(Enum):
    """What can be referenced by a pod."""

    CONFIG_MAP = "ConfigMap"
    SECRET = "Secret"  # noqa: S105 - a kind's name, not a secret

    @property
    def resource(self) -> Resource:
        """The API resource of this kind."""
        return CONFIG_MAPS if self is Kind.CONFIG_MAP else SECRETS


class ForeignObjectError(Exception):
    """The provider has an object of the copy's name that this consumer did not make."""

    def __init__(self, kind: Kind, namespace: str, name: str) -> None:
        super().__init__(
            f"the provider has a {kind.value} {namespace}/{name} that isthmus did not make; "
            "remove or rename one of the two"
        )


class Copier:
    """One consumer's copies, as far as one virtual node needs them. Errors of the provider are raised."""

    def __init__(self, provider: Client, caches: RemoteCaches, *, consumer_id: str, node_name: str) -> None:
        self._provider = provider
        self._caches = caches
        self._consumer_id = consumer_id
        self._node_name = node_name

    def cached(self, kind: Kind, namespace: str, name: str) -> ConfigMap | Secret | None:
        """The copy as the cache shows it."""
        caches = self._caches.get(namespace)
        if caches is None:
            return None
        store = caches.config_maps.store if kind is Kind.CONFIG_MAP else caches.secrets.store
        return store.get((namespace, name))

    async def check_absent(self, kind: Kind, namespace: str, name: str) -> None:
        """Make sure that a name for which there is nothing to copy is no stranger's: `ForeignObjectError`.

        A pod that names it would be shown what belongs to the provider, or to another consumer.
        """
        try:
            found = await self._get(kind, namespace, name)
        except ApiError as error:
            if error.not_found:
                return
            raise
        self._check_ours(kind, found)

    async def write(
        self, kind: Kind, source: ConfigMap | Secret, copy: ConfigMap | Secret | None, *, namespace: str, name: str
    ) -> None:
        """Make `copy` hold what `source` holds. `NotReflectableError`, `ForeignObjectError`."""
        body = self._forge(source, namespace=namespace, name=name)
        if copy is None:
            try:
                await self._provider.create(kind.resource, body, namespace=namespace)
                return
            except ApiError as error:
                if not error.already_exists:
                    raise
            copy = await self._get(kind, namespace, name)
            self._check_ours(kind, copy)
            if copies.in_step(source, copy, self._node_name):
                return  # our own write, which the cache has yet to show
        kept = {k: v for k, v in copy.metadata.annotations.items() if k.startswith(ownership.USED_BY_PREFIX)}
        body["metadata"]["annotations"] = {**kept, **body["metadata"]["annotations"]}
        if copies.needs_replacement(source, copy):
            await self.delete(kind, copy)
            await self._provider.create(kind.resource, body, namespace=namespace)
            return
        body["metadata"]["resourceVersion"] = copy.metadata.resource_version
        await self._provider.replace(kind.resource, body, name=name, namespace=namespace)

    async def give_up(self, kind: Kind, copy: ConfigMap | Secret) -> None:
        """This node needs the copy no more: remove it, or our name from it where another node needs it."""
        if not ownership.other_users(copy.metadata, self._node_name):
            await self.delete(kind, copy)
            return
        own = ownership.used_by(self._node_name)
        if own in copy.metadata.annotations:
            meta = copy.metadata
            body = {"metadata": {"annotations": {own: None}}}
            await self._provider.patch(kind.resource, body, name=meta.name, namespace=meta.namespace)

    async def delete(self, kind: Kind, copy: ConfigMap | Secret) -> None:
        """Remove a copy in the very state that we know."""
        meta = copy.metadata
        try:
            await self._provider.delete(
                kind.resource,
                name=meta.name,
                namespace=meta.namespace,
                uid=meta.uid,
                resource_version=meta.resource_version,
            )
        except ApiError as error:
            if not error.not_found:
                raise

    def _check_ours(self, kind: Kind, found: ConfigMap | Secret) -> None:
        if not ownership.is_ours(found.metadata, self._consumer_id):
            raise ForeignObjectError(kind, found.metadata.namespace, found.metadata.name)

    async def _get(self, kind: Kind, namespace: str, name: str) -> ConfigMap | Secret:
        if kind is Kind.CONFIG_MAP:
            return await self._provider.get(CONFIG_MAPS, name=name, namespace=namespace, decode=ConfigMap)
        return await self._provider.get(SECRETS, name=name, namespace=namespace, decode=Secret)

    def _forge(self, source: ConfigMap | Secret, *, namespace: str, name: str) -> dict[str, Any]:
        metadata = copies.copy_metadata(source.metadata, consumer_id=self._consumer_id, node_name=self._node_name)
        if isinstance(source, Secret):
            return copies.forge_secret(source, metadata=metadata, namespace=namespace, name=name)
        return copies.forge_config_map(source, metadata=metadata, namespace=namespace, name=name)
