"""Making and removing the provider's namespaces, where the mapping leaves that to us.

A namespace of that name which we did not make is never taken over. The rights in a namespace we
make come from a RoleBinding that we add; the provider's ValidatingAdmissionPolicy (deploy/rbac)
confines such names and bindings to this consumer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

import structlog

from kube.client import Client
from kube.errors import ApiError
from kube.objects import Object
from kube.resources import NAMESPACES, PODS, ROLE_BINDINGS, Resource
from reflection import ownership
from reflection.forge import names
from reflection.mapping import NamespaceMapping

log = structlog.get_logger(__name__)

SELF_SUBJECT_REVIEWS = Resource(
    "authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", namespaced=False
)


class ForeignNamespaceError(Exception):
    """The provider has a namespace of the mapped name that is not ours, or that stands for another one of ours."""

    def __init__(self, namespace: str, *, origin: str = "") -> None:
        whose = f"stands for namespace {origin!r} already" if origin else "was not made by this consumer"
        super().__init__(f"provider namespace {namespace!r} exists and {whose}: map to another one, or remove it")


class NamespaceDeniedError(Exception):
    """The provider's manager makes no namespace of this name for us; its words are the text."""


class NamespaceGoingError(Exception):
    """The provider's namespace is on its way out: nothing can be made in it, nor itself again, until it is gone."""

    def __init__(self, namespace: str, text: str = "is being removed; it is made again when that is over") -> None:
        super().__init__(f"provider namespace {namespace!r} {text}")


class NamespacePendingError(NamespaceGoingError):
    """The provider's manager was asked for the namespace, and has not made it yet."""

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace, "was asked for; the provider's manager has not answered yet")


class MappedNamespaces(Protocol):
    """The provider's namespaces that stand for consumers' ones. Requests raise `kube.errors.KubeError`."""

    async def ensure(self, origin: str) -> str:
        """The namespace for `origin`, made if needed and admitted by the mapping.

        Raises `ForeignNamespaceError`, `NamespaceDeniedError`, `NamespaceNotMappedError`, `NamespaceGoingError`.
        """

    def admits(self, origin: str) -> None:
        """Raise `NamespaceNotMappedError`, or for the moment `NamespaceGoingError`, if nothing new may go there."""

    def forget(self, remote: str) -> None:
        """A write said that the namespace is gone or going: look again when it is next needed."""

    async def existing(self) -> dict[str, str]:
        """Provider namespaces that were made for this consumer earlier, with their origins."""

    async def is_gone(self, remote: str) -> bool:
        """Whether there is no such namespace."""

    async def is_closed(self, remote: str) -> bool:
        """Whether it is gone, or nothing of ours can be in it because it is being removed."""

    async def remove(self, remote: str) -> bool:
        """Remove a namespace that is known to be unused; False if it was not made for us."""

    async def unask(self, origin: str) -> None:
        """Ask no more for a namespace that was never made."""


def says_lost(error: ApiError) -> bool:
    """Whether a failed create may mean that its namespace is gone or going.

    Our rights in a namespace of ours go with it: then the answer is not 404 but RBAC's refusal.
    """
    known = ("being terminated", "cannot create resource")
    return error.not_found or (error.forbidden and any(text in error.message for text in known))


class Namespaces:
    """`MappedNamespaces` that we make ourselves, if they are ours to make. Calls for one namespace are serial."""

    def __init__(
        self, provider: Client, mapping: NamespaceMapping, *, consumer_id: str, roles: Mapping[str, Resource]
    ) -> None:
        """`roles` are bound in namespaces that we make; each goes with a resource that nobody can list without it."""
        self._provider = provider
        self._mapping = mapping
        self._consumer_id = consumer_id
        self._roles = roles
        self._present: set[str] = set()
        self._locks: dict[str, asyncio.Lock] = {}
        self._subject: dict[str, str] | None = None

    async def ensure(self, origin: str) -> str:
        """The namespace for `origin`, made if needed.

        Raises `ForeignNamespaceError`, `NamespaceNotMappedError`, `NamespaceGoingError`. One that is there is given
        also where the mapping admits nothing new: something may run in it.
        """
        remote = self._mapping.remote(origin)
        if not self._mapping.managed or remote in self._present:
            return remote
        async with self._locks.setdefault(remote, asyncio.Lock()):
            if remote not in self._present:
                await self._look_or_make(origin, remote)
                self._present.add(remote)
        return remote

    def admits(self, origin: str) -> None:
        """Raise `NamespaceNotMappedError` if nothing new may go there."""
        self._mapping.admits(origin)

    async def _look_or_make(self, origin: str, remote: str) -> None:
        """After a restart nothing has to be written: the namespace and our rights in it are there."""
        if await self._is_there(origin, remote):
            for role, resource in self._roles.items():
                if not await self._may_list(resource, remote):
                    await self._bind(role, remote)
            return
        self._mapping.admits(origin)
        await self._create(origin, remote)
        for role in self._roles:
            await self._bind(role, remote)

    async def _is_there(self, origin: str, remote: str) -> bool:
        try:
            existing = await self._provider.get(NAMESPACES, name=remote, decode=Object)
        except ApiError as error:
            if error.not_found:
                return False
            if error.forbidden and await self._may_list(PODS, remote):
                return True  # who may not see namespaces but work in this one was given it
            raise
        self._check(origin, existing)
        return True

    def _check(self, origin: str, existing: Object) -> None:
        if not self._ours(existing):
            raise ForeignNamespaceError(existing.metadata.name)
        made_for = existing.metadata.annotations.get(names.ORIGIN_NAMESPACE, origin)
        if made_for != origin:
            raise ForeignNamespaceError(existing.metadata.name, origin=made_for)
        if existing.metadata.deletion_timestamp:
            raise NamespaceGoingError(existing.metadata.name)

    async def _may_list(self, resource: Resource, remote: str) -> bool:
        """Whether the role that goes with it is bound there; an earlier process may have ended before it did that."""
        try:
            await self._provider.raw("GET", resource.path(namespace=remote), params=[("limit", "1")])
        except ApiError as error:
            if error.forbidden:
                return False
            raise
        return True

    def forget(self, remote: str) -> None:
        """A write said that the namespace is gone or going: make it again when next needed."""
        self._present.discard(remote)

    async def existing(self) -> dict[str, str]:
        """Provider namespaces that this consumer made earlier, with their origins."""
        if not self._mapping.managed:
            return {}
        listing = await self._provider.list(
            NAMESPACES, label_selector=ownership.consumer_selector(self._consumer_id), decode=Object
        )
        found = {n.metadata.name: n.metadata.annotations.get(names.ORIGIN_NAMESPACE, "") for n in listing.items}
        return {remote: origin for remote, origin in found.items() if origin}

    async def is_gone(self, remote: str) -> bool:
        """Whether there is no such namespace. All but this GET says 403 when it was removed: our rights went too."""
        try:
            await self._provider.get(NAMESPACES, name=remote, decode=Object)
        except ApiError as error:
            if not error.not_found:
                raise
            self.forget(remote)
            return True
        return False

    async def is_closed(self, remote: str) -> bool:
        """See `MappedNamespaces`."""
        return await self.is_gone(remote)

    async def remove(self, remote: str) -> bool:
        """Remove a namespace that we made and that the caller knows to be unused; False if we did not make it.

        One that only carries our label was given to us by the provider.
        """
        self.forget(remote)
        try:
            namespace = await self._provider.get(NAMESPACES, name=remote, decode=Object)
            if not self._ours(namespace) or names.ORIGIN_NAMESPACE not in namespace.metadata.annotations:
                return False
            await self._provider.delete(NAMESPACES, name=remote, uid=namespace.metadata.uid)
        except ApiError as error:
            if error.forbidden:
                return False  # who may not see it did not make it
            if not error.not_found:
                raise
        log.info("removed provider namespace", namespace=remote)
        return True

    async def unask(self, origin: str) -> None:
        """See `MappedNamespaces`. What was refused to us was not asked of anybody who would remember."""

    def _ours(self, namespace: Object) -> bool:
        return ownership.is_ours(namespace.metadata, self._consumer_id)

    async def _create(self, origin: str, remote: str) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": remote,
                "labels": {
                    names.MANAGED_BY_LABEL: names.MANAGED_BY,
                    names.CONSUMER_LABEL: names.label_value(self._consumer_id),
                },
                "annotations": {names.ORIGIN_NAMESPACE: origin},
            },
        }
        try:
            await self._provider.create(NAMESPACES, body)
            log.info("made provider namespace", namespace=remote, origin=origin)
        except ApiError as error:
            if not error.already_exists:
                raise
            self._check(origin, await self._provider.get(NAMESPACES, name=remote, decode=Object))

    async def _bind(self, role: str, remote: str) -> None:
        """Grant ourselves a namespaced role; a provider that grants it elsewhere may refuse this."""
        body = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": role, "labels": {names.MANAGED_BY_LABEL: names.MANAGED_BY}},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [await self._own_subject()],
        }
        try:
            await self._provider.create(ROLE_BINDINGS, body, namespace=remote)
        except ApiError as error:
            if error.forbidden:
                message = "provider does not let us bind a role; rights must come from elsewhere"
                log.info(message, namespace=remote, role=role)
            elif not error.already_exists:
                raise

    async def _own_subject(self) -> dict[str, str]:
        if self._subject is None:
            review: dict[str, Any] = await self._provider.create(
                SELF_SUBJECT_REVIEWS, {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
            )
            self._subject = subject(review["status"]["userInfo"]["username"])
        return self._subject


def subject(username: str) -> dict[str, str]:
    """The RBAC subject for an authenticated user name; service accounts are a kind of their own."""
    parts = username.split(":")
    if parts[:2] == ["system", "serviceaccount"] and len(parts) == 4:
        return {"kind": "ServiceAccount", "namespace": parts[2], "name": parts[3]}
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": username}
