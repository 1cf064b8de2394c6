"""The manifest with which a provider answers a Tenant: an Identity for the consumer, without any secret. Pure."""

from __future__ import annotations

from typing import Any

import yaml

from api.authentication.definitions import IDENTITIES
from api.authentication.tenant import Tenant
from identity import documents, names
from identity.provider.settings import ProviderSettings

Json = dict[str, Any]


def identity(tenant: Tenant, settings: ProviderSettings, *, certificate: str = "", sealed_token: str = "") -> str:
    """YAML of the Identity that the consumer applies."""
    spec: Json = {
        "method": "Exchange",
        "server": settings.server,
        "caBundle": settings.ca,
        "providerID": settings.cluster_id,
        "namespace": names.tenant_namespace(tenant.consumer_id),
        "credential": tenant.spec.credential,
    }
    if certificate:
        spec["certificate"] = certificate
    if sealed_token:
        spec["sealedToken"] = sealed_token
    if tenant.spec.request is None:
        spec["invitation"] = {"name": names.invitation_secret(_identity(tenant)), "key": "token"}
    return documents.text(
        {
            "apiVersion": IDENTITIES.api_version,
            "kind": IDENTITIES.kind,
            "metadata": {"name": _identity(tenant)},
            "spec": spec,
        }
    )


def credential(text: str) -> dict[str, str]:
    """What of a manifest that was made before lets its consumer in: `certificate` or `sealedToken`."""
    try:
        spec = yaml.safe_load(text)["spec"]
        return {kind: str(spec[kind]) for kind in ("certificate", "sealedToken") if kind in spec}
    except (yaml.YAMLError, LookupError, TypeError, ValueError):
        return {}


def agrees(text: str, tenant: Tenant, settings: ProviderSettings) -> bool:
    """Whether a manifest that was made before says where and for whom this provider is now."""
    try:
        made = yaml.safe_load(text)
        spec = made["spec"]
        return (made["metadata"]["name"], spec["server"], spec["caBundle"], spec["credential"]) == (
            _identity(tenant),
            settings.server,
            settings.ca,
            tenant.spec.credential,
        )
    except (yaml.YAMLError, LookupError, TypeError, ValueError):
        return False


def _identity(tenant: Tenant) -> str:
    """How the consumer calls us: as it asked, else as it is invited to."""
    if tenant.spec.request is not None:
        return tenant.spec.request.identity
    return tenant.spec.invitation.identity if tenant.spec.invitation is not None else "provider"
