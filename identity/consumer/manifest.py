"""The manifest with which a consumer asks: a Tenant for the provider, without any secret. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
import yaml

from api.authentication.common import SignedRequest
from api.authentication.definitions import TENANTS
from identity import documents, requests
from identity.keys import PrivateKey
from identity.requests import Party

Json = dict[str, Any]


def tenant(key: PrivateKey, party: Party, *, identity: str, now: datetime) -> str:
    """YAML of the Tenant that the provider applies. What the consumer may have is for the provider to add."""
    request = requests.sign_request(key, party, identity=identity, now=now)
    manifest = {
        "apiVersion": TENANTS.api_version,
        "kind": TENANTS.kind,
        "metadata": {"name": party.consumer_id},
        "spec": {
            "clusterID": party.cluster_id,
            "publicKey": key.public_pem(),
            "request": msgspec.to_builtins(request),
        },
    }
    return documents.text(manifest)


def is_good(text: str, key: PrivateKey, party: Party, *, now: datetime, lifetime: timedelta) -> bool:
    """Whether a manifest that was made before is still this key's and this cluster's, and not about to expire."""
    try:
        made = yaml.safe_load(text)
        spec = made["spec"]
        request = msgspec.convert(spec["request"], SignedRequest)
        issued = requests.parse_time(request.issued_at, field="issuedAt")
        same = (made["metadata"]["name"], spec["clusterID"], spec["publicKey"]) == (
            party.consumer_id,
            party.cluster_id,
            key.public_pem(),
        )
    except (yaml.YAMLError, LookupError, TypeError, msgspec.ValidationError):
        return False
    return same and now - issued < lifetime
