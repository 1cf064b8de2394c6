"""Keeps isthmus in place while VirtualNodes need it.

Who deletes all of isthmus in one go (`kubectl delete -k`) deletes the VirtualNodes and what would take back what they
left at their providers. While there are VirtualNodes, an admission policy refuses the deletion of the manager, its
rights and its namespace, and says so; the VirtualNodes are drained meanwhile, and the same command, repeated, finds the
way free. API servers leave policies and their bindings themselves out of admission, so who has to can end it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import structlog

from kube.client import Client
from kube.errors import ApiError
from kube.resources import Resource
from vk.virtualnode.settings import FIELD_MANAGER

log = structlog.get_logger(__name__)

Json = dict[str, Any]

NAME: Final = "isthmus-in-use"
_GROUP: Final = "admissionregistration.k8s.io"
POLICIES: Final = Resource(_GROUP, "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", namespaced=False)
BINDINGS: Final = Resource(
    _GROUP, "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", namespaced=False
)
MESSAGE: Final = (
    "isthmus is in use: VirtualNodes are left, and it has to take back what they have at their providers. Delete them "
    f"first, or repeat this when they are gone (kubectl get virtualnodes). To go without that, delete the "
    f"ValidatingAdmissionPolicyBinding {NAME}"
)
_MANAGER: Final = "isthmus-manager"
_RIGHTS: Final = (
    *(_MANAGER, f"{_MANAGER}-election", f"{_MANAGER}-scheduling", f"{_MANAGER}-storage"),
    *("isthmus-kinds", "isthmus-kinds-nodes", "isthmus-namespace-offloadings", "isthmus-peers"),
)
"""Roles of deploy/manager/base and consumer, and their bindings."""


class Guard:
    """The policy, on as long as `hold` was called and `release` was not. Methods raise KubeError."""

    def __init__(self, client: Client, *, namespace: str, check: Callable[[], None]) -> None:
        self._client = client
        self._namespace = namespace
        self._check = check
        self._held = False

    async def hold(self) -> None:
        """There are VirtualNodes."""
        if self._held:
            return
        self._check()
        for resource, body in ((POLICIES, policy(self._namespace)), (BINDINGS, binding())):
            await self._client.apply(resource, body, name=NAME, field_manager=FIELD_MANAGER)
        self._held = True

    async def release(self) -> None:
        """There are none."""
        self._check()
        self._held = False
        for resource in (BINDINGS, POLICIES):
            try:
                await self._client.delete(resource, name=NAME)
            except ApiError as error:
                if not error.not_found:
                    raise


def policy(namespace: str) -> Json:
    """Refuses to delete what isthmus consists of. What it makes in users' namespaces comes and goes."""
    rules = [
        _rule("", "namespaces", namespace),
        _rule("", "serviceaccounts", _MANAGER),
        _rule("apps", "deployments", _MANAGER),
        *(_rule("rbac.authorization.k8s.io", kind, *_RIGHTS) for kind in ("clusterroles", "clusterrolebindings")),
        *(_rule("rbac.authorization.k8s.io", kind, *_RIGHTS) for kind in ("roles", "rolebindings")),
    ]
    here = f"request.?namespace.orValue('') in ['', '{namespace}']"
    return {
        "apiVersion": POLICIES.api_version,
        "kind": POLICIES.kind,
        "metadata": {"name": NAME, "labels": {"app.kubernetes.io/managed-by": "isthmus"}},
        "spec": {
            "failurePolicy": "Ignore",
            "matchConstraints": {"resourceRules": rules},
            "matchConditions": [{"name": "isthmus-itself", "expression": here}],
            "validations": [{"expression": "false", "message": MESSAGE, "reason": "Forbidden"}],
        },
    }


def binding() -> Json:
    """Puts the policy into force."""
    return {
        "apiVersion": BINDINGS.api_version,
        "kind": BINDINGS.kind,
        "metadata": {"name": NAME, "labels": {"app.kubernetes.io/managed-by": "isthmus"}},
        "spec": {"policyName": NAME, "validationActions": ["Deny"]},
    }


def _rule(group: str, resource: str, *names: str) -> Json:
    return {
        "apiGroups": [group],
        "apiVersions": ["v1"],
        "operations": ["DELETE"],
        "resources": [resource],
        "resourceNames": list(names),
    }
