"""EndpointSlice: the endpoints of a Service that live elsewhere than at the provider.

Who makes what. The reflected Service keeps its selector (`reflection.kinds.service`), so the provider's own endpoint
controller makes slices of the remote pods there, with the addresses, nodes and zones that the provider really has, and
goes on doing so while the consumer is away. What it can't know are the endpoints at the consumer and at other
providers: those are in the consumer's slices, and come from here. An endpoint whose node is one of this provider's
virtual nodes is a remote pod that the provider has in a slice of its own, and is left out; without that it would be
there twice, once by an address that has been translated there and back. The alternative, to leave the selector out and
to send all endpoints, would make traffic between two pods of the provider depend on the consumer and lag behind it.

Our slices say `endpointslice.kubernetes.io/managed-by: isthmus`, so the provider's controllers leave them alone (they
touch only slices that bear their own name), while kube-proxy and DNS take all slices of a Service together. Slices map
one to one: a change of one endpoint changes one slice of at most 100, however large the Service is. A slice none
of whose endpoints lives elsewhere has no copy.

A Service without selector has slices that its user makes: they travel the same way. The nodes of endpoints, the pods
they refer to and topology hints mean nothing at the provider; zone, hostname (DNS names of StatefulSet pods) and
readiness are kept.

Addresses that mean the machine which uses them, or no single one (loopback, link-local, where clouds keep metadata,
multicast, unspecified) never travel, whatever the translation says (abuse test A23).
"""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from kube.resources import Resource
from reflection.kinds.model import Context, Copy, Forged, Json, Kind

ENDPOINT_SLICES: Final = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
SERVICE_NAME: Final = "kubernetes.io/service-name"
MANAGED_BY: Final = "endpointslice.kubernetes.io/managed-by"
MANAGER: Final = "isthmus.dev"
_OWN_LABELS: Final = frozenset({MANAGED_BY, "endpoints.kubernetes.io/managed-by"})
_CARRIED: Final = ("conditions", "hostname", "zone")


def forge(local: Json, context: Context) -> Forged:
    """The provider's slice, with the endpoints elsewhere; None if there are none."""
    translate = local.get("addressType") in ("IPv4", "IPv6")
    elsewhere = [one for one in local.get("endpoints") or () if one.get("nodeName") not in context.nodes]
    found = [_endpoint(endpoint, context, translate=translate) for endpoint in elsewhere]
    endpoints = [endpoint for endpoint in found if endpoint is not None]
    if not endpoints:
        return None
    labels = local["metadata"].get("labels") or {}
    return Copy(
        {"addressType": local.get("addressType"), "endpoints": endpoints, "ports": local.get("ports") or []},
        labels={**{key: value for key, value in labels.items() if key not in _OWN_LABELS}, MANAGED_BY: MANAGER},
    )


def _endpoint(endpoint: Json, context: Context, *, translate: bool) -> Json | None:
    addresses: list[Any] = list(endpoint.get("addresses") or ())
    if translate:
        translated = map(context.translation.address, addresses)
        addresses = [address for address in translated if address is not None and not is_special(address)]
    if not addresses:
        return None
    return {"addresses": addresses, **{key: endpoint[key] for key in _CARRIED if endpoint.get(key) is not None}}


def is_special(address: str) -> bool:
    """Whether no endpoint may have this address (ValidateEndpointIP, pkg/apis/core/validation)."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return True
    mapped = getattr(found, "ipv4_mapped", None)
    found = mapped or found
    return found.is_loopback or found.is_link_local or found.is_multicast or found.is_unspecified


def recreate(wanted: Json, current: Json) -> bool:
    """Whether the family changed, which the API server holds fast."""
    return bool(wanted["addressType"] != current.get("addressType"))


ENDPOINT_SLICE = Kind(
    resource=ENDPOINT_SLICES,
    parts=("addressType", "endpoints", "ports"),
    forge=forge,
    recreate=recreate,
    follows=("services", SERVICE_NAME),
    knows_nodes=True,
)
