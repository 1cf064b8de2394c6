"""Keeps a program in place while there are objects that only it can bring to an end.

Who deletes all of an installation in one go (`kubectl delete -k`) deletes the objects and what would finish them: they
hang on their finalizers for ever. While there are such objects, an admission policy refuses the deletion of the
program, its rights and its namespace, and says so; the objects end meanwhile, and the same command, repeated, finds the
way free. API servers leave policies and their bindings themselves out of admission, so who has to can end it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kube.client import Client
from kube.errors import ApiError
from kube.objects import Metadata
from kube.resources import Resource

Json = dict[str, Any]

_GROUP: Final = "admissionregistration.k8s.io"
POLICIES: Final = Resource(_GROUP, "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", namespaced=False)
BINDINGS: Final = Resource(
    _GROUP, "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", namespaced=False
)
_RBAC: Final = "rbac.authorization.k8s.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What must not be deleted now: a Deployment with its service account of the same name, namespace and rights."""

    name: str
    """Of the policy and of its binding."""
    message: str
    namespace: str
    program: str
    daemons: tuple[str, ...] = ()
    """DaemonSets that belong to it."""
    services: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    """Other namespaces in which it has roles."""
    roles: tuple[str, ...]
    """Roles and ClusterRoles, and their bindings of the same names."""
    labels: Mapping[str, str]
    field_manager: str


class Guard:
    """The policy, on as long as `hold` was called and `release` was not. Methods raise KubeError.

    `check` raises if this process may not write (any more).
    """

    def __init__(self, client: Client, installation: Installation, *, check: Callable[[], None]) -> None:
        self._client = client
        self._installation = installation
        self._check = check
        self._held = False

    async def hold(self) -> None:
        """It is needed."""
        if self._held:
            return
        self._check()
        made = self._installation
        for resource, body in ((POLICIES, policy(made)), (BINDINGS, binding(made))):
            await self._client.apply(resource, body, name=made.name, field_manager=made.field_manager)
        self._held = True

    async def release(self) -> None:
        """It is not."""
        self._check()
        self._held = False
        for resource in (BINDINGS, POLICIES):
            try:
                await self._client.delete(resource, name=self._installation.name)
            except ApiError as error:
                if not error.not_found:
                    raise


class InUse:
    """Holds a guard while there are objects. `found` is the metadata of all there are, also of those about to go."""

    def __init__(self, guard: Guard, found: Callable[[], Iterable[Metadata]]) -> None:
        self._guard = guard
        self._found = found
        self._done: set[str] = set()
        """UIDs of objects that need nothing any more, although they may still be seen."""
        self._lock = asyncio.Lock()

    async def hold(self) -> None:
        """There are some."""
        async with self._lock:
            await self._guard.hold()

    async def release(self, meta: Metadata) -> None:
        """This one has nothing left but its finalizer."""
        async with self._lock:
            self._done.add(meta.uid)
            await self._settle()

    async def settle(self) -> None:
        """Let go if there are none: for the time before we began, when somebody else may have taken the last one."""
        async with self._lock:
            await self._settle()

    async def _settle(self) -> None:
        there = {meta.uid for meta in self._found()}
        self._done &= there
        if not there - self._done:
            await self._guard.release()


def policy(made: Installation) -> Json:
    """Refuses to delete what the installation consists of, in its namespace and outside of namespaces."""
    rules = [
        _rule("", "namespaces", made.namespace),
        _rule("", "serviceaccounts", made.program),
        _rule("apps", "deployments", made.program),
        *(_rule("apps", "daemonsets", name) for name in made.daemons),
        *(_rule("", "services", name) for name in made.services),
        *(_rule(_RBAC, kind, *made.roles) for kind in ("clusterroles", "clusterrolebindings", "roles", "rolebindings")),
    ]
    places = ", ".join(f"'{name}'" for name in ("", made.namespace, *made.elsewhere))
    here = f"request.?namespace.orValue('') in [{places}]"
    return {
        "apiVersion": POLICIES.api_version,
        "kind": POLICIES.kind,
        "metadata": {"name": made.name, "labels": dict(made.labels)},
        "spec": {
            "failurePolicy": "Ignore",
            "matchConstraints": {"resourceRules": rules},
            "matchConditions": [{"name": "isthmus-itself", "expression": here}],
            "validations": [{"expression": "false", "message": made.message, "reason": "Forbidden"}],
        },
    }


def binding(made: Installation) -> Json:
    """Puts the policy into force."""
    return {
        "apiVersion": BINDINGS.api_version,
        "kind": BINDINGS.kind,
        "metadata": {"name": made.name, "labels": dict(made.labels)},
        "spec": {"policyName": made.name, "validationActions": ["Deny"]},
    }


def _rule(group: str, resource: str, *names: str) -> Json:
    return {
        "apiGroups": [group],
        "apiVersions": ["v1"],
        "operations": ["DELETE"],
        "resources": [resource],
        "resourceNames": list(names),
    }
