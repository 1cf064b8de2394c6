"""The manifest with which a consumer asks: a Tenant for the provider, without any secret. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
import yaml

from api.authentication.common import SignedRequest
from api.authentication.credential_request import PeeringRequest
from api.authentication.definitions import TENANTS
from identity import documents, requests
from identity.keys import PrivateKey
from identity.problems import RefusedError
from identity.requests import Party

Json = dict[str, Any]

_ANSWER = ("credential", "certificate", "sealedToken", "providerID")


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
    except (yaml.YAMLError, LookupError, TypeError, ValueError):
        return False
    return same and now - issued < lifetime


def asking(text: str) -> PeeringRequest:
    """What our own manifest asks with."""
    spec = yaml.safe_load(text)["spec"]
    return msgspec.convert({name: spec[name] for name in ("clusterID", "publicKey", "request")}, PeeringRequest)


def answered(text: str) -> dict[str, str]:
    """What of a provider's manifest lets us in; the rest we know. Raises `RefusedError`."""
    try:
        spec = yaml.safe_load(text)["spec"]
        found = {name: spec[name] for name in _ANSWER if name in spec}
    except (yaml.YAMLError, LookupError, TypeError, ValueError):  # ValueError: a time that is none
        raise RefusedError("BadProvider", "what the provider answered is no Identity") from None
    if not all(isinstance(value, str) for value in found.values()) or not {"certificate", "sealedToken"} & found.keys():
        raise RefusedError("BadProvider", "what the provider answered holds no credential")
    return found
