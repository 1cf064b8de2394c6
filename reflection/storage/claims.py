"""The virtual kubelet's side: before a pod is made at the provider, the claims that it names are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from kube.client import Client
from kube.errors import ApiError
from kube.objects import Object, WithMetadata
from reflection import ownership
from reflection.forge import names
from reflection.forge.model import Refused
from reflection.storage.model import CLAIMS, Claim, remote_claim, unsupported, volume_name

log = structlog.get_logger(__name__)


def claim_names(pod: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """The claims that a pod names, each with the field that does; ephemeral volumes have one of their own."""
    for index, volume in enumerate(pod["spec"].get("volumes") or ()):
        where = f"spec.volumes[{index}] ({volume.get('name', '')})"
        if "persistentVolumeClaim" in volume:
            yield volume["persistentVolumeClaim"]["claimName"], f"{where}.persistentVolumeClaim"
        elif "ephemeral" in volume:
            yield f"{pod['metadata']['name']}-{volume['name']}", f"{where}.ephemeral"


class Claims:
    """Makes claims at the provider. `classes` maps the consumer's classes; empty: all get the provider's default."""

    def __init__(self, consumer: Client, provider: Client, *, consumer_id: str, classes: Mapping[str, str]) -> None:
        self._consumer = consumer
        self._provider = provider
        self._consumer_id = consumer_id
        self._classes = dict(classes)

    async def ensure(self, origin: Object, pod: Mapping[str, Any], *, remote_namespace: str) -> None:
        """All claims of the pod are at the provider. Raises `Refused` for what cannot be, or not yet."""
        for name, field in claim_names(pod):
            claim = await self._read(origin.metadata.namespace, name, field)
            if claim.spec.volume_name != volume_name(claim):
                raise Refused(field, _foreign(claim))
            if (why := unsupported(claim)) is not None:
                raise Refused(field, f"claim {name}: {why}")
            await self._ensure_one(claim, field, remote_namespace)

    async def _read(self, namespace: str, name: str, field: str) -> Claim:
        try:
            return await self._consumer.get(CLAIMS, name=name, namespace=namespace, decode=Claim)
        except ApiError as error:
            if error.not_found:
                raise Refused(field, f"claim {name} does not exist; make it") from error
            raise

    async def _ensure_one(self, claim: Claim, field: str, namespace: str) -> None:
        existing = await self._existing(claim.metadata.name, namespace)
        if existing is None:
            existing = await self._create(claim, field, namespace)
        meta, name = existing.metadata, claim.metadata.name
        if not ownership.is_ours(meta, self._consumer_id):
            message = f"the provider has a claim {namespace}/{name} that isthmus did not make; remove or rename one"
            raise Refused(field, message)
        if ownership.origin_uid(meta) != claim.metadata.uid or meta.deletion_timestamp is not None:
            raise Refused(
                field, f"claim {name} at the provider is of an earlier claim of that name and is being removed"
            )

    async def _existing(self, name: str, namespace: str) -> WithMetadata | None:
        try:
            return await self._provider.get(CLAIMS, name=name, namespace=namespace, decode=WithMetadata)
        except ApiError as error:
            if error.not_found:
                return None
            raise

    async def _create(self, claim: Claim, field: str, namespace: str) -> WithMetadata:
        meta = claim.metadata
        body = remote_claim(
            claim,
            namespace=namespace,
            storage_class=self._class(claim, field),
            labels={
                names.MANAGED_BY_LABEL: names.MANAGED_BY,
                names.CONSUMER_LABEL: names.label_value(self._consumer_id),
            },
            annotations={
                names.ORIGIN_NAMESPACE: meta.namespace,
                names.ORIGIN_NAME: meta.name,
                names.ORIGIN_UID: meta.uid,
            },
        )
        try:
            made = await self._provider.create(CLAIMS, body, namespace=namespace, decode=WithMetadata)
        except ApiError as error:
            if error.already_exists:
                found = await self._existing(meta.name, namespace)
                if found is not None:
                    return found
            if error.retryable:
                raise
            raise Refused(field, f"the provider refused claim {meta.name}: {error.message}") from error
        log.info("made claim at the provider", claim=f"{namespace}/{meta.name}", origin=meta.namespace)
        return made

    def _class(self, claim: Claim, field: str) -> str | None:
        wanted = claim.spec.storage_class_name
        if not self._classes:
            return None
        if wanted not in self._classes:
            known = ", ".join(sorted(self._classes))
            raise Refused(field, f"class {wanted!r} has no counterpart at the provider; there are {known}")
        return self._classes[wanted]


def _foreign(claim: Claim) -> str:
    name, wanted = claim.metadata.name, claim.spec.storage_class_name
    if not claim.spec.volume_name:
        return f"claim {name} is not bound yet"
    return f"claim {name} (class {wanted!r}) is bound to a volume of this cluster, which the provider cannot mount"
