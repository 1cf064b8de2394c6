"""What virtual kubelets may do at the consumer besides what a node may: RoleBindings where namespaces are offloaded.

A node identity may read no Services and may list no Secrets; in an offloaded namespace the virtual kubelets of its
providers are given the roles that reflection needs, and lose them with the offloading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import structlog

from kube.client import Client
from kube.errors import ApiError
from kube.objects import WithMetadata
from kube.resources import ROLE_BINDINGS, Resource
from reflection.forge.names import MANAGED_BY, MANAGED_BY_LABEL

log = structlog.get_logger(__name__)

CLUSTER_ROLE_BINDINGS: Final = Resource(
    "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
)
_FIELD_MANAGER: Final = "isthmus-rights"


class Rights:
    """Keeps bindings named after their roles. One of that name that is not ours is left alone."""

    def __init__(
        self, client: Client, *, check: Callable[[], None], cluster_role: str = "", namespace_roles: Sequence[str] = ()
    ) -> None:
        self._client = client
        self._check = check
        self._cluster_role = cluster_role
        self._namespace_roles = namespace_roles
        self._given: dict[tuple[str, str], frozenset[str]] = {}
        """(namespace, role) -> nodes, as last written by this process."""

    async def everywhere(self, nodes: Iterable[str]) -> None:
        """What all virtual kubelets need in the whole cluster: to read which namespaces are offloaded."""
        if self._cluster_role:
            await self._give("", self._cluster_role, frozenset(nodes))

    async def within(self, namespace: str, nodes: Iterable[str]) -> None:
        """What the virtual kubelets of a namespace's providers need in it."""
        users = frozenset(nodes)
        for role in self._namespace_roles:
            await self._give(namespace, role, users)

    async def withdraw(self, namespace: str) -> None:
        """The namespace is not offloaded any more."""
        for role in self._namespace_roles:
            if await self._is_ours(namespace, role):
                self._check()
                await self._delete(namespace, role)
            self._given.pop((namespace, role), None)

    async def _give(self, namespace: str, role: str, nodes: frozenset[str]) -> None:
        if self._given.get((namespace, role)) == nodes:
            return
        if await self._is_ours(namespace, role) is False:
            log.warning("binding of others in the way: virtual kubelets get no rights", namespace=namespace, name=role)
            return
        resource = ROLE_BINDINGS if namespace else CLUSTER_ROLE_BINDINGS
        api = {"apiGroup": resource.group}
        body = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": role, "labels": {MANAGED_BY_LABEL: MANAGED_BY}},
            "roleRef": {**api, "kind": "ClusterRole", "name": role},
            "subjects": [{**api, "kind": "User", "name": f"system:node:{node}"} for node in sorted(nodes)],
        }
        self._check()
        await self._client.apply(resource, body, name=role, namespace=namespace or None, field_manager=_FIELD_MANAGER)
        self._given[(namespace, role)] = nodes

    async def _is_ours(self, namespace: str, role: str) -> bool | None:
        """Whether the binding is ours; None if there is none."""
        resource = ROLE_BINDINGS if namespace else CLUSTER_ROLE_BINDINGS
        try:
            found = await self._client.get(resource, name=role, namespace=namespace or None, decode=WithMetadata)
        except ApiError as error:
            if error.not_found:
                return None
            raise
        return found.metadata.labels.get(MANAGED_BY_LABEL) == MANAGED_BY

    async def _delete(self, namespace: str, role: str) -> None:
        try:
            await self._client.delete(ROLE_BINDINGS, name=role, namespace=namespace)
        except ApiError as error:
            if not error.not_found:
                raise
