"""The group's kinds as resources of the API, and what their CustomResourceDefinitions say besides the types."""

from __future__ import annotations

from api.authentication.common import GROUP, VERSION
from api.authentication.credential_request import CredentialRequest
from api.authentication.identity import Identity
from api.authentication.resource_slice import GRANTED, ResourceSlice
from api.authentication.tenant import Tenant
from kube.crd import Column, Definition
from kube.resources import Resource

TENANTS = Resource(GROUP, VERSION, "tenants", "Tenant", namespaced=False)
IDENTITIES = Resource(GROUP, VERSION, "identities", "Identity", namespaced=False)
CREDENTIAL_REQUESTS = Resource(GROUP, VERSION, "credentialrequests", "CredentialRequest")
RESOURCE_SLICES = Resource(GROUP, VERSION, "resourceslices", "ResourceSlice")

_CATEGORIES = ("isthmus",)


def _condition(kind: str, field: str = "status") -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


_READY = Column("Ready", _condition("Ready"))
_REASON = Column("Reason", _condition("Ready", "reason"))
_MESSAGE = Column("Message", _condition("Ready", "message"), priority=1)
_EXPIRES = Column("Expires", ".status.expires")
_AGE = Column("Age", ".metadata.creationTimestamp", type="date")

DEFINITIONS = (
    Definition(
        TENANTS,
        Tenant,
        short_names=("tn",),
        categories=_CATEGORIES,
        notes=(
            "The consumer makes the manifest; the provider's administrator adds what it may have and applies it. Its "
            "name is the consumer's id. Removing it takes the consumer's rights, credentials, pods and namespaces."
        ),
        columns=(
            Column("State", ".spec.state"),
            _READY,
            _REASON,
            Column("User", ".status.user", priority=1),
            _MESSAGE,
            _AGE,
        ),
    ),
    Definition(
        IDENTITIES,
        Identity,
        short_names=("idy",),
        categories=_CATEGORIES,
        notes=(
            "It is named after the provider. Applied without a server, it makes a key and, in its status, the Tenant "
            "that the provider has to apply; the provider's answer is applied over it. The key stays in a Secret of the"
            " namespace where isthmus runs."
        ),
        columns=(
            Column("Method", ".spec.method"),
            Column("Server", ".spec.server"),
            _READY,
            _REASON,
            Column("Secret", ".status.kubeconfigSecret"),
            _EXPIRES,
            _MESSAGE,
            _AGE,
        ),
    ),
    Definition(
        CREDENTIAL_REQUESTS,
        CredentialRequest,
        short_names=("cr",),
        categories=_CATEGORIES,
        notes="The consumer's manager makes one in its namespace at the provider; nobody else needs to.",
        columns=(
            Column("Issued", _condition("Issued")),
            Column("Reason", _condition("Issued", "reason")),
            _EXPIRES,
            Column("Message", _condition("Issued", "message"), priority=1),
            _AGE,
        ),
    ),
    Definition(
        RESOURCE_SLICES,
        ResourceSlice,
        short_names=("slice",),
        categories=_CATEGORIES,
        notes=(
            "The consumer makes it in the namespace where isthmus runs; its manager keeps a copy in the consumer's "
            "namespace at the provider, where it is decided, and brings the answer back. Kubernetes has another kind of"
            " this name (of resource.k8s.io): write `kubectl get slice`."
        ),
        columns=(
            Column("Identity", ".spec.identity"),
            Column("Class", ".spec.class"),
            Column("Granted", _condition(GRANTED)),
            Column("Reason", _condition(GRANTED, "reason")),
            Column("CPU", ".status.granted.cpu"),
            Column("Memory", ".status.granted.memory"),
            _EXPIRES,
            Column("Message", _condition(GRANTED, "message"), priority=1),
            _AGE,
        ),
    ),
)
