"""What one side tells the other, as the patch that the other side's administrator applies. Pure.

It has `spec.peer` alone, all fields of it: one that is not told is null, so that nothing stays of what was told before.
It is meant for a merge patch (RFC 7386): an apply in a name of its own would do, but kubectl hands what was applied
without `--server-side` over to whoever applies with it next, and `spec.local`, which is not in here, would go. No
secret is in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from api.networking.common import Remapped
from api.networking.definitions import NETWORK_PEERINGS
from api.networking.peering import LocalSide, NetworkPeering, NetworkPeeringStatus, PeerSide, PeerTunnel
from kube.objects import to_dict
from netfabric.plan import probes

Json = dict[str, Any]


class NotReadyError(ValueError):
    """There is nothing to tell yet; the text says what is missing."""


def export(peering: NetworkPeering, *, name: str) -> Json:
    """The other side's half. `name` is what that side calls this cluster. Raises `NotReadyError`."""
    local, status = peering.spec.local, peering.status
    where = f"NetworkPeering {peering.metadata.name}"
    if local is None:
        raise NotReadyError(f"{where}: spec.local is not declared yet: what would the peer be told?")
    if not status.public_key and peering.spec.technology != "None":
        raise NotReadyError(f"{where}: it has no public key yet: does the manager run with --module=network?")
    if peering.spec.tunnels > 1 and len(status.tunnels) < peering.spec.tunnels:
        raise NotReadyError(f"{where}: its further tunnels have no keys yet: does a manager of this version run?")
    told = PeerSide(
        pod_cidrs=local.pod_cidrs,
        service_cidrs=local.service_cidrs,
        external_cidrs=local.external_cidrs,
        endpoints=local.endpoints,
        public_key=status.public_key or None,
        remapped_cidrs=tuple(
            Remapped(cidr=one.cidr, seen_as=one.seen_as) for one in status.networks if not one.problem
        ),
        # With technology None packets do not come by our gateways, so nobody would answer.
        probe_addresses=probes.addresses(local.pod_cidrs) if peering.spec.technology != "None" else (),
        tunnels=tuple(_further(local, status, count=peering.spec.tunnels)),
    )
    return {
        "apiVersion": NETWORK_PEERINGS.api_version,
        "kind": NETWORK_PEERINGS.kind,
        "metadata": {"name": name},
        "spec": {
            "technology": peering.spec.technology,
            "peer": {**dict.fromkeys(PeerSide.__struct_encode_fields__), **to_dict(told)},
        },
    }


def _further(local: LocalSide, status: NetworkPeeringStatus, *, count: int) -> Iterator[PeerTunnel]:
    """Tunnels behind the first; whoever dials has no ports to tell."""
    outside = int(local.endpoints[0].rpartition(":")[2]) if local.endpoints else 0
    for number, one in enumerate(status.tunnels[1:count], start=1):
        port = one.port if outside == status.port else outside + number
        if number <= len(local.tunnel_ports):
            port = local.tunnel_ports[number - 1]
        yield PeerTunnel(public_key=one.public_key, port=port if outside else None)
