"""ExternalAddress: something outside the cluster, reachable from peers."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from api.meta import Conditions
from api.networking.common import Address, Name
from kube.objects import Metadata


class ExternalAddressSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What is to be reachable, and by whom."""

    address: Annotated[
        Address, Meta(description="Address is where the gateway reaches it, such as a database beside the cluster.")
    ]
    peers: Annotated[
        tuple[Name, ...],
        Meta(
            description="Peers are the NetworkPeerings whose pods may reach it; absent, those of all.",
            max_length=64,
            extra_json_schema={"x-kubernetes-list-type": "set"},
        ),
    ] = ()


class ExternalAddressStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What it came to."""

    observed_generation: Annotated[
        int, Meta(description="ObservedGeneration is the generation that the status speaks of.")
    ] = 0
    conditions: Conditions = ()
    address: Annotated[
        str,
        Meta(
            description="Address stands for it: one of this cluster's externalCIDRs, which each peer sees as its own "
            "plan maps that network."
        ),
    ] = ""


class ExternalAddress(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """ExternalAddress makes an address outside this cluster reachable from peers."""

    metadata: Metadata = Metadata()
    spec: ExternalAddressSpec
    status: ExternalAddressStatus = ExternalAddressStatus()
