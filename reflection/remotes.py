"""How a virtual kubelet asks its provider for pods: where direct and managed mode differ on a pod's path.

In both there is an object of ours for each consumer's pod, of the pod's name, that says whose it is: the *remote*. It
is watched, asked for, changed and deleted here. In direct mode it is the pod that runs itself; in managed mode a
ShadowPod, of which the provider's manager makes the pod (`reflection.managed.writer`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from kube.client import Client, PatchType
from kube.errors import ApiError
from kube.objects import Metadata, Object
from kube.resources import PODS, Resource
from kube.store import Key, Store
from reflection.decode import decode_pod
from reflection.forge.model import Refused

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the provider shows of a pod. `current`: it has all that its remote asks for."""

    pod: Json
    current: bool = True


@dataclass(frozen=True, slots=True)
class Recorded:
    """How a pod ended that the provider does not show any more."""

    phase: str
    reason: str = ""
    message: str = ""


class Remotes(Protocol):
    """Remotes at one provider. Requests raise `kube.errors.KubeError`."""

    @property
    def resource(self) -> Resource:
        """What remotes are."""

    async def find(self, key: Key) -> Object | None:
        """The remote of this provider key as the API server has it now."""

    async def create(self, body: Mapping[str, Any], *, on_warning: Callable[[str], None]) -> Object:
        """Ask for a forged pod."""

    async def change(self, remote: Object, patch: Mapping[str, Any], *, subresource: str | None) -> Object:
        """Pass on a change, one of `reflection.forge.model.Changes`; the remote as it is then."""

    async def delete(self, remote: Object, *, grace: int) -> None:
        """Delete this very remote, its containers with a grace in seconds. One that is gone is no error."""

    def grace(self, remote: Object) -> int | None:
        """With which grace a remote is being deleted; None if it is not."""

    def asked(self, remote: Object) -> Json:
        """The pod that a remote asks for, with what was passed on to it: what changes are found against."""

    def running(self, remote: Object, pods: Store[Object]) -> Object | None:
        """The provider's pod that was made for a remote; `pods` are those that the cache shows."""

    def seen(self, remote: Object, pods: Store[Object]) -> Seen | Recorded | None:
        """How the pod of a remote goes; None if nothing is known that is newer than what is known already."""

    def refusal(self, remote: Object) -> Refused | None:
        """Why the provider makes no pod of a remote."""

    def change_refusal(self, remote: Object) -> str:
        """Why the provider did not pass on the last change of a remote; empty if it did."""


class DirectRemotes:
    """Remotes that are the pods themselves."""

    resource: Final = PODS

    def __init__(self, provider: Client) -> None:
        self._provider = provider
        self._decoded: tuple[Object | None, Json] = (None, {})

    async def find(self, key: Key) -> Object | None:
        """See `Remotes`."""
        return await self._provider.find(PODS, namespace=key[0], name=key[1], decode=Object)

    async def create(self, body: Mapping[str, Any], *, on_warning: Callable[[str], None]) -> Object:
        """See `Remotes`."""
        namespace = body["metadata"]["namespace"]
        return await self._provider.create(PODS, body, namespace=namespace, decode=Object, on_warning=on_warning)

    async def change(self, remote: Object, patch: Mapping[str, Any], *, subresource: str | None) -> Object:
        """See `Remotes`."""
        meta = remote.metadata
        body = {**patch, "metadata": {**patch.get("metadata", {}), "uid": meta.uid}}
        return await self._provider.patch(
            PODS,
            body,
            name=meta.name,
            namespace=meta.namespace,
            subresource=subresource,
            kind=PatchType.STRATEGIC,
            decode=Object,
        )

    async def delete(self, remote: Object, *, grace: int) -> None:
        """See `Remotes`."""
        await delete(self._provider, PODS, remote.metadata, grace=grace)

    def grace(self, remote: Object) -> int | None:
        """See `Remotes`."""
        meta = remote.metadata
        return (meta.deletion_grace_period_seconds or 0) if meta.deletion_timestamp else None

    def asked(self, remote: Object) -> Json:
        """See `Remotes`."""
        if self._decoded[0] is not remote:
            self._decoded = (remote, decode_pod(remote))
        return self._decoded[1]  # one reconcile asks for it twice

    def running(self, remote: Object, pods: Store[Object]) -> Object | None:
        """See `Remotes`."""
        return remote

    def seen(self, remote: Object, pods: Store[Object]) -> Seen:
        """See `Remotes`."""
        pod = self.asked(remote)
        return Seen({**pod, "status": dict(pod["status"])})

    def refusal(self, remote: Object) -> None:
        """See `Remotes`."""

    def change_refusal(self, remote: Object) -> str:
        """See `Remotes`."""
        return ""


async def delete(client: Client, resource: Resource, meta: Metadata, *, grace: int | None) -> None:
    """Delete an object of this UID; one that is gone, or another one by now, is no error."""
    try:
        await client.delete(
            resource, name=meta.name, namespace=meta.namespace, uid=meta.uid, grace_period_seconds=grace
        )
    except ApiError as error:
        if not (error.not_found or error.status == 409):
            raise
