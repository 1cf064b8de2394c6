"""The group's kinds as resources of the API, and what their CustomResourceDefinitions say besides the types."""

from __future__ import annotations

from api.networking.common import GROUP, VERSION
from api.networking.external_address import ExternalAddress
from api.networking.peering import NetworkPeering
from kube.crd import Column, Definition
from kube.resources import Resource

NETWORK_PEERINGS = Resource(GROUP, VERSION, "networkpeerings", "NetworkPeering", namespaced=False)
EXTERNAL_ADDRESSES = Resource(GROUP, VERSION, "externaladdresses", "ExternalAddress", namespaced=False)

_CATEGORIES = ("isthmus",)


def _condition(kind: str, field: str = "status") -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


_READY = Column("Ready", _condition("Ready"))
_REASON = Column("Reason", _condition("Ready", "reason"))
_MESSAGE = Column("Message", _condition("Ready", "message"), priority=1)
_AGE = Column("Age", ".metadata.creationTimestamp", type="date")

DEFINITIONS = (
    Definition(
        NETWORK_PEERINGS,
        NetworkPeering,
        short_names=("np",),
        categories=_CATEGORIES,
        notes=(
            "There is one on each side, named as that side calls the other. What each tells of itself goes to the "
            "other by file (`isthmus network export`). Networks of the peer that are taken here already are seen as "
            "others of the same size; what is in use is never moved by itself."
        ),
        columns=(
            Column("Technology", ".spec.technology"),
            Column("Connection", ".status.connection.state"),
            Column("Latency", ".status.connection.latency"),
            Column("Nodes", ".status.paths.ready", type="integer"),
            _READY,
            _REASON,
            _MESSAGE,
            _AGE,
        ),
    ),
    Definition(
        EXTERNAL_ADDRESSES,
        ExternalAddress,
        short_names=("xa",),
        categories=_CATEGORIES,
        notes=(
            "It is given an address of the cluster's externalCIDRs; packets to that are sent on by the gateway, which "
            "answers come back to. Nothing else outside the cluster is reachable from a peer."
        ),
        columns=(
            Column("Address", ".spec.address"),
            Column("Announced", ".status.address"),
            _READY,
            _REASON,
            _MESSAGE,
            _AGE,
        ),
    ),
)
