"""Removing what was made at a provider for a namespace: all of it, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from kube.client import Client
from kube.errors import ApiError
from kube.objects import WithMetadata
from kube.resources import CONFIG_MAPS, PODS, SECRETS, Resource
from reflection import ownership
from reflection.scheduling.leadership import Leadership
from reflection.scheduling.status import Answer

CLAIMS: Final = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
_SHOWN: Final = 5

IsEmpty = Callable[[str], bool | None]
"""Whether reflection has left nothing in a provider namespace; None: not known yet."""


class RemoteNamespaces(Protocol):
    """The provider's namespaces: `reflection.namespaces.Namespaces` in direct mode."""

    async def ensure(self, origin: str) -> str:
        """The namespace for `origin`, made if need be. Raises ForeignNamespaceError, NamespaceGoingError, KubeError."""

    def forget(self, remote: str) -> None:
        """Look again, the next time, whether it is there."""

    async def existing(self) -> dict[str, str]:
        """Namespaces that were made earlier, with their origins."""

    async def remove(self, remote: str) -> bool:
        """Remove it, if we made it; False if we did not."""

    async def is_gone(self, remote: str) -> bool:
        """Whether there is no such namespace."""

    async def is_closed(self, remote: str) -> bool:
        """Whether it is gone, or nothing of ours can be in it because it is being removed."""

    async def unask(self, origin: str) -> None:
        """Ask no more for a namespace that was never made."""


class Removal:
    """Removes a namespace that we made, or empties one that was given to us."""

    def __init__(
        self,
        provider: Client,
        namespaces: RemoteNamespaces,
        *,
        consumer_id: str,
        leadership: Leadership,
        is_empty: IsEmpty,
        remotes: Resource = PODS,
    ) -> None:
        """`remotes` are what virtual kubelets make for pods."""
        self._provider = provider
        self._namespaces = namespaces
        self._consumer_id = consumer_id
        self._leadership = leadership
        self._is_empty = is_empty
        self._kinds = (PODS,) if remotes is PODS else (remotes, PODS)

    async def remove(self, remote: str) -> Answer | None:
        """Remove a namespace that nothing runs in; None when nothing is left, else what stands against it."""
        answer = await self._in_use(remote)
        if answer is not None:
            return answer
        self._leadership.check()
        if await self._namespaces.remove(remote):
            if not await self._namespaces.is_gone(remote):
                return Answer(False, "Removing", f"namespace {remote} is being removed")
        elif not await self._is_clean(remote):
            return Answer(False, "Removing", f"what was made in {remote} is being removed")
        return None

    async def _in_use(self, remote: str) -> Answer | None:
        """What must not be removed with the namespace: pods, whosever they are, and volumes."""
        pods = [pod for kind in self._kinds for pod in await self._list(kind, remote)]
        ours = {pod.metadata.name for pod in pods if ownership.is_ours(pod.metadata, self._consumer_id)}
        if ours:
            return Answer(False, "PodsRemain", f"{_counted('pod', ours)} of the namespace still run in {remote}")
        if pods:
            strange = {pod.metadata.name for pod in pods}
            return Answer(False, "ForeignObjects", f"{_counted('pod', strange)} of others are in {remote}")
        claims = {claim.metadata.name for claim in await self._list(CLAIMS, remote)}
        if claims:
            text = f"{_counted('PersistentVolumeClaim', claims)} with data are in {remote}: delete them first"
            return Answer(False, "VolumesRemain", text)
        return None

    async def _is_clean(self, remote: str) -> bool:
        """Whether nothing of ours is left in a namespace that is not ours to remove."""
        for resource in (CONFIG_MAPS, SECRETS):
            found = await self._list(resource, remote)
            if any(ownership.is_ours(item.metadata, self._consumer_id) for item in found):
                return False
        return self._is_empty(remote) is True

    async def _list(self, resource: Resource, remote: str) -> list[WithMetadata]:
        """What is in a namespace. Where we have no right to look we have nothing, or the namespace is gone."""
        selector = "" if resource in (*self._kinds, CLAIMS) else ownership.consumer_selector(self._consumer_id)
        try:
            listing = await self._provider.list(
                resource, namespace=remote, label_selector=selector, decode=WithMetadata
            )
        except ApiError as error:
            if error.not_found or (
                error.forbidden and (resource is CLAIMS or await self._namespaces.is_closed(remote))
            ):
                return []
            raise
        return listing.items


def _counted(what: str, names: set[str]) -> str:
    shown = ", ".join(sorted(names)[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    return f"{len(names)} {what}{'s' if len(names) != 1 else ''} ({shown})"
