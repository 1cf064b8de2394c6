"""From NetworkPeerings, ExternalAddresses and Nodes to what the address plan is made of. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from api.networking.external_address import ExternalAddress
from api.networking.peering import LocalSide, NetworkPeering, PeerSide
from kube.objects import Metadata
from netfabric.controller.nodes import Node
from netfabric.plan.external import ExternalInput
from netfabric.plan.model import DEFAULT_POOLS, INTERNAL, Kind, Own, PeerInput, Problem
from netfabric.plan.spans import Span, host, span


def own(peerings: Iterable[NetworkPeering], nodes: Iterable[Node]) -> Own:
    """This cluster's networks, as all NetworkPeerings together declare them, and what else is reached from it."""
    networks: dict[tuple[Kind, Span], None] = {}
    reserved: dict[tuple[str, Span], None] = {}
    for peering in peerings:
        if peering.spec.local is not None:
            networks.update(dict.fromkeys(_networks(peering.spec.local)))
            named = "a reserved network of this cluster,"
            reserved.update(dict.fromkeys((named, one) for one in _spans(peering.spec.local.reserved_cidrs)))
        if peering.spec.peer is not None:
            named = f"where the gateway of {peering.metadata.name} is reached,"
            reserved.update(dict.fromkeys((named, one) for one in _ends(peering.spec.peer.endpoints)))
    covered = [one for _, one in networks] + [one for _, one in reserved]
    for node in nodes:
        for text, found in _of_node(node):
            if not any(one.holds(found) for one in covered):
                reserved[text, found] = None
    reserved.update(dict.fromkeys(("the fabric's own links,", one) for one in INTERNAL))
    return Own(tuple(sorted(networks)), tuple(sorted(reserved)))


def peer_input(peering: NetworkPeering) -> PeerInput:
    """One peering for the plan."""
    spec, status = peering.spec, peering.status
    return PeerInput(
        name=peering.metadata.name,
        order=order(peering.metadata),
        networks=tuple(_networks(spec.peer)) if spec.peer is not None else (),
        pins=dict(_pairs((one.cidr, one.seen_as) for one in spec.remap)),
        held=dict(_pairs((one.cidr, one.seen_as) for one in status.networks)),
        pools=tuple(_spans(spec.remap_pools)) or DEFAULT_POOLS,
        translates=spec.technology != "None",
        port=spec.port,
        held_port=status.port,
        held_number=status.number,
        tunnels=spec.tunnels,
        held_further=tuple(one.port for one in status.tunnels[1:]),
    )


def pod_networks(node: Node, own: Own) -> tuple[str, ...]:
    """The networks of a node's pods, as far as they are in those that the cluster declares."""
    pods = [one for kind, one in own.networks if kind is Kind.POD]
    return tuple(str(one) for one in _spans(node.spec.networks) if any(pod.holds(one) for pod in pods))


def external_input(external: ExternalAddress) -> ExternalInput:
    """One ExternalAddress for the plan."""
    return ExternalInput(
        name=external.metadata.name,
        order=order(external.metadata),
        address=external.spec.address,
        held=external.status.address,
    )


def problems(peering: NetworkPeering) -> Iterator[Problem]:
    """What is missing before there can be a network, the first thing to do first."""
    name, spec = peering.metadata.name, peering.spec
    if spec.local is None or not (spec.local.pod_cidrs or spec.local.service_cidrs):
        yield Problem("LocalMissing", "spec.local: declare what this cluster has, podCIDRs at least")
    if spec.peer is None:
        told = f"spec.peer: let {name} apply what `isthmus network export {name}` prints here, and apply what it prints"
        yield Problem("PeerMissing", f"{told} there")
        return
    if spec.technology == "None":
        return
    if spec.peer.public_key is None:
        yield Problem(
            "PeerKeyMissing", f"spec.peer.publicKey: apply what `isthmus network export` prints at {name} now"
        )
    reachable = spec.local.endpoints if spec.local is not None else ()
    if not spec.peer.endpoints and not reachable:
        told = "neither side can dial: give spec.local.endpoints here, or at the peer and exchange it"
        yield Problem("EndpointMissing", told)
    if spec.technology == "VXLAN" and not _vxlan(peering):
        told = "technology VXLAN needs an IP address and this side's port in spec.peer.endpoints[0], and spec.port"
        yield Problem("EndpointUnfit", told)


def _vxlan(peering: NetworkPeering) -> bool:
    """VXLAN goes to one UDP port, the same on both sides, and dials no names."""
    ends = peering.spec.peer.endpoints if peering.spec.peer is not None else ()
    if not ends or peering.spec.port is None:
        return False
    return bool(_ends(ends[:1])) and ends[0].endswith(f":{peering.spec.port}")


def order(metadata: Metadata) -> tuple[str, str]:
    """Who came first; a name decides between those of one second."""
    return (metadata.creation_timestamp, metadata.name)


def _networks(side: LocalSide | PeerSide) -> Iterator[tuple[Kind, Span]]:
    given = ((Kind.POD, side.pod_cidrs), (Kind.SERVICE, side.service_cidrs), (Kind.EXTERNAL, side.external_cidrs))
    for kind, cidrs in given:
        for one in _spans(cidrs):
            yield kind, one


def _spans(cidrs: Iterable[str]) -> list[Span]:
    """What the schema admits; anything else was stored before it, and does not count."""
    return [found for found in map(_span, cidrs) if found is not None]


def _span(cidr: str) -> Span | None:
    try:
        return span(cidr)
    except ValueError:
        return None


def _pairs(given: Iterable[tuple[str, str]]) -> Iterator[tuple[Span, Span]]:
    for first, second in given:
        one, other = _span(first), _span(second)
        if one is not None and other is not None:
            yield one, other


def _ends(endpoints: Iterable[str]) -> list[Span]:
    """Tunnels' ends that are addresses; names may be anywhere, and change."""
    found = []
    for endpoint in endpoints:
        try:
            found.append(host(endpoint.rpartition(":")[0].strip("[]")))
        except ValueError:
            continue
    return found


def _of_node(node: Node) -> Iterator[tuple[str, Span]]:
    for address in node.addresses:
        try:
            yield f"the address of node {node.metadata.name},", host(address)
        except ValueError:
            continue
    for one in _spans(node.spec.networks):
        yield f"the pod network of node {node.metadata.name},", one
