"""NetworkPeering: the network between this cluster and one other, as declared and as it is."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from api.meta import Conditions, rule
from api.networking.common import (
    MOST_NETWORKS,
    MOST_TUNNELS,
    Address,
    Cidr,
    Endpoint,
    Name,
    Port,
    PublicKey,
    Remapped,
    Rules,
)
from kube.objects import Metadata

Technology = Literal["WireGuard", "VXLAN", "None"]
TrafficPolicy = Literal["OffloadedPods", "WholeCluster"]
Family = Literal["Pod", "Service", "External"]
Mtu = Annotated[int, Meta(ge=1280, le=9000)]
ConnectionState = Literal["Unknown", "Connecting", "Connected", "Disconnected"]

Cidrs = Annotated[tuple[Cidr, ...], Meta(max_length=MOST_NETWORKS, extra_json_schema={"x-kubernetes-list-type": "set"})]
_REMAPPED = Meta(
    max_length=3 * MOST_NETWORKS,
    extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["cidr"]},
)
_SAME_SIZE = rule(
    "self.all(r, !isCIDR(r.cidr) || !isCIDR(r.seenAs) || (cidr(r.cidr).prefixLength() == cidr(r.seenAs).prefixLength() "
    "&& cidr(r.cidr).ip().family() == cidr(r.seenAs).ip().family()))",
    "seenAs must have the prefix length and the family of its cidr",
)
_PINS = Meta(
    max_length=3 * MOST_NETWORKS,
    extra_json_schema={
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["cidr"],
        "x-kubernetes-validations": [_SAME_SIZE],
    },
)


class LocalSide(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What this cluster has, and tells the peer."""

    pod_cidrs: Annotated[Cidrs, Meta(description="PodCIDRs are the networks of this cluster's pods.")] = msgspec.field(
        name="podCIDRs", default=()
    )
    service_cidrs: Annotated[
        Cidrs, Meta(description="ServiceCIDRs are the networks of this cluster's cluster IPs.")
    ] = msgspec.field(name="serviceCIDRs", default=())
    external_cidrs: Annotated[
        Cidrs,
        Meta(
            description="ExternalCIDRs are networks that nothing else in this cluster uses: ExternalAddresses get "
            "theirs of them, and what is neither pod nor Service is seen by the peer as the first of them."
        ),
    ] = msgspec.field(name="externalCIDRs", default=())
    reserved_cidrs: Annotated[
        Cidrs,
        Meta(
            description="ReservedCIDRs are other networks that this cluster's pods and nodes reach, such as those of "
            "its machines: nothing of the peer is given an address in them."
        ),
    ] = msgspec.field(name="reservedCIDRs", default=())
    endpoints: Annotated[
        tuple[Endpoint, ...],
        Meta(
            description="Endpoints are where the peer reaches this cluster's gateway, host:port, tried in this order; "
            "absent, this cluster dials.",
            max_length=8,
            extra_json_schema={"x-kubernetes-list-type": "atomic"},
        ),
    ] = ()
    tunnel_ports: Annotated[
        tuple[Port, ...],
        Meta(
            description="TunnelPorts are the UDP ports at the endpoints' host by which the peer reaches the second "
            "tunnel and those after it; absent, those on which the gateway listens, or behind an endpoint whose port "
            "is another than that, the ports that follow the endpoint's.",
            max_length=MOST_TUNNELS - 1,
            extra_json_schema={"x-kubernetes-list-type": "atomic"},
        ),
    ] = ()


class PeerTunnel(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A tunnel that the peer has besides the first."""

    public_key: Annotated[PublicKey, Meta(description="PublicKey is the tunnel's WireGuard public key in base64.")]
    port: Annotated[
        Port | None,
        Meta(
            description="Port is the UDP port at the endpoint's host where it is reached; absent, the one that follows "
            "the endpoint's, by the tunnel's place in the list."
        ),
    ] = None


class PeerSide(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What the peer told of itself: the exchange writes it, by file or by identity."""

    pod_cidrs: Annotated[Cidrs, Meta(description="PodCIDRs are the networks of the peer's pods.")] = msgspec.field(
        name="podCIDRs", default=()
    )
    service_cidrs: Annotated[Cidrs, Meta(description="ServiceCIDRs are the networks of the peer's cluster IPs.")] = (
        msgspec.field(name="serviceCIDRs", default=())
    )
    external_cidrs: Annotated[
        Cidrs, Meta(description="ExternalCIDRs are the networks of the peer's ExternalAddresses.")
    ] = msgspec.field(name="externalCIDRs", default=())
    endpoints: Annotated[
        tuple[Endpoint, ...],
        Meta(
            description="Endpoints are where this cluster reaches the peer's gateway, host:port; absent, the peer "
            "dials in.",
            max_length=8,
            extra_json_schema={"x-kubernetes-list-type": "atomic"},
        ),
    ] = ()
    public_key: Annotated[
        PublicKey | None, Meta(description="PublicKey is the peer's WireGuard public key in base64.")
    ] = None
    remapped_cidrs: Annotated[
        tuple[Remapped, ...],
        Meta(
            description="RemappedCIDRs say how the peer sees this cluster's networks; a network that is not listed is "
            "not known to be reachable there."
        ),
        _REMAPPED,
    ] = msgspec.field(name="remappedCIDRs", default=())
    probe_addresses: Annotated[
        tuple[Address, ...],
        Meta(
            description="ProbeAddresses are where the peer's nodes answer who asks whether its pods are reached, one "
            "of each family and of its pod networks; absent, nobody asks.",
            max_length=2,
            extra_json_schema={"x-kubernetes-list-type": "set"},
        ),
    ] = ()
    tunnels: Annotated[
        tuple[PeerTunnel, ...],
        Meta(
            description="Tunnels are those that the peer has besides the first, whose key and endpoint are above.",
            max_length=MOST_TUNNELS - 1,
            extra_json_schema={"x-kubernetes-list-type": "atomic"},
        ),
    ] = ()


class KeySecret(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Where this cluster's private key is."""

    name: Annotated[Name, Meta(description="Name is the Secret's name in the namespace where isthmus runs.")]


class NetworkPeeringSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a user wants of a network with another cluster."""

    RULES: ClassVar[Rules] = [
        rule(
            "!has(self.technology) || self.technology != 'None' || !has(self.mtu)",
            "mtu must not be given with technology None: whoever made that network has set it",
        ),
        rule(
            "!has(self.tunnels) || self.tunnels == 1 || !has(self.technology) || self.technology == 'WireGuard'",
            "tunnels must be 1 unless technology is WireGuard: only its tunnels share flows",
        ),
    ]

    local: Annotated[
        LocalSide | None,
        Meta(description="Local is what this cluster has; all NetworkPeerings of a cluster should say the same."),
    ] = None
    peer: Annotated[
        PeerSide | None,
        Meta(description="Peer is what the other cluster told of itself, as `isthmus network export` there prints it."),
    ] = None
    technology: Annotated[
        Technology,
        Meta(
            description="Technology is what carries packets between the gateways: WireGuard, VXLAN without encryption "
            "for underlays that are trusted, or None where the clusters reach each other by other means."
        ),
    ] = "WireGuard"
    port: Annotated[
        Port | None,
        Meta(
            description="Port is the UDP port on which this cluster's gateway listens for the peer; absent, one that "
            "is free, which the status tells."
        ),
    ] = None
    tunnels: Annotated[
        int,
        Meta(
            description="Tunnels is how many WireGuard tunnels there are between the gateways, each on a port of its "
            "own; flows are spread over them. If both sides do not say the same, the smaller number is used.",
            ge=1,
            le=MOST_TUNNELS,
        ),
    ] = 1
    mtu: Annotated[
        Mtu | None,
        Meta(
            description="MTU is the size of the largest packet between pods, in bytes; absent, it is found by probing "
            "the path."
        ),
    ] = None
    key_secret: Annotated[
        KeySecret | None,
        Meta(
            description="KeySecret is the Secret with this cluster's private key in its entry privateKey; absent, one "
            "is made, named isthmus-network- and the name of this object."
        ),
    ] = None
    traffic_policy: Annotated[
        TrafficPolicy,
        Meta(
            description="TrafficPolicy says what may pass: what offloaded pods send and receive (OffloadedPods), or "
            "all between the pods, Services and external addresses of both clusters (WholeCluster)."
        ),
    ] = "OffloadedPods"
    remap: Annotated[
        tuple[Remapped, ...],
        Meta(
            description="Remap pins what stands here for networks of the peer, also against what the status holds: "
            "connections through a network that is moved end."
        ),
        _PINS,
    ] = ()
    remap_pools: Annotated[
        Cidrs,
        Meta(
            description="RemapPools are networks of which stand-ins for the peer's networks may be taken, in this "
            "order; absent, 100.64.0.0/10, 10.128.0.0/9, 172.16.0.0/12 and fd69:7374::/32."
        ),
    ] = ()


class PlannedNetwork(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One network of the peer in this cluster's address plan."""

    kind: Annotated[Family, Meta(description="Kind is what has its addresses in this network.")]
    cidr: Annotated[str, Meta(description="CIDR is the network as the peer declares it.", max_length=43)]
    seen_as: Annotated[
        str, Meta(description="SeenAs is the network by which it is reached in this cluster.", max_length=43)
    ]
    problem: Annotated[
        str, Meta(description="Problem says why nothing passes to and from it; absent, packets do.", max_length=1024)
    ] = ""


class Connection(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """How the tunnel to the peer is, as the active gateway says."""

    state: Annotated[ConnectionState, Meta(description="State says whether the peer's gateway answers.")] = "Unknown"
    gateway: Annotated[str, Meta(description="Gateway is the pod that is the active gateway.")] = ""
    endpoint: Annotated[str, Meta(description="Endpoint is where the peer is reached now, or was seen last.")] = ""
    latency: Annotated[str, Meta(description="Latency is the round trip to the peer's gateway, such as 12ms.")] = ""
    loss_percent: Annotated[int, Meta(description="LossPercent is how many of the last probes were lost.")] = 0
    mtu: Annotated[int, Meta(description="MTU is the largest packet that passes, in bytes, as found by probing.")] = 0
    last_handshake: Annotated[
        str,
        Meta(
            description="LastHandshake is when the tunnel's keys were last agreed upon.",
            extra_json_schema={"format": "date-time"},
        ),
    ] = ""
    technology: Annotated[str, Meta(description="Technology is what carries packets, in full.")] = ""


class Tunnel(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One of several tunnels to the peer."""

    port: Annotated[int, Meta(description="Port is the UDP port on which the gateway listens for it.")]
    public_key: Annotated[
        str, Meta(description="PublicKey is this cluster's WireGuard public key for it.", max_length=44)
    ]
    state: Annotated[
        ConnectionState,
        Meta(description="State says whether the peer answers by it; Unknown too if the peer has fewer tunnels."),
    ] = "Unknown"


class NodeProblem(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A node whose pods do not reach the peer."""

    node: Annotated[str, Meta(description="Node is the name of the node.")]
    reason: Annotated[str, Meta(description="Reason is one word in CamelCase for programs to act on.")] = ""
    message: Annotated[str, Meta(description="Message says in full what is the case.")] = ""


class Paths(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The way from nodes to the gateway; only what is wrong is listed by name."""

    total: Annotated[int, Meta(description="Total is how many nodes should have a path.")] = 0
    ready: Annotated[int, Meta(description="Ready is how many nodes have one that carries packets.")] = 0
    problems: Annotated[
        tuple[NodeProblem, ...],
        Meta(
            description="Problems are nodes without one, at most twenty.",
            extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["node"]},
        ),
    ] = ()


class NetworkPeeringStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What is the case with the network to a peer."""

    observed_generation: Annotated[
        int, Meta(description="ObservedGeneration is the generation that the status speaks of.")
    ] = 0
    conditions: Conditions = ()
    public_key: Annotated[
        str, Meta(description="PublicKey is this cluster's WireGuard public key, for the peer.", max_length=44)
    ] = ""
    port: Annotated[int, Meta(description="Port is the UDP port on which the gateway listens for the peer.")] = 0
    number: Annotated[
        int, Meta(description="Number tells the peer's packets from those of others in gateways; it never changes.")
    ] = 0
    networks: Annotated[
        tuple[PlannedNetwork, ...],
        Meta(
            description="Networks are the peer's networks and what stands for them in this cluster.",
            extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["cidr"]},
        ),
    ] = ()
    connection: Annotated[
        Connection | None, Meta(description="Connection is how the tunnel is, as the active gateway says.")
    ] = None
    tunnels: Annotated[
        tuple[Tunnel, ...],
        Meta(
            description="Tunnels are all of them, in their order, if this side has more than one; connection is then "
            "that of the first by which the peer answers.",
            max_length=MOST_TUNNELS,
            extra_json_schema={"x-kubernetes-list-type": "atomic"},
        ),
    ] = ()
    paths: Annotated[Paths | None, Meta(description="Paths tell whether nodes reach the gateway.")] = None


class NetworkPeering(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """NetworkPeering lets pods of this cluster and of one other reach each other."""

    RULES: ClassVar[Rules] = [
        rule("self.metadata.name.size() <= 40", "must be named with at most 40 characters: other names are made of it")
    ]

    metadata: Metadata = Metadata()
    spec: NetworkPeeringSpec = NetworkPeeringSpec()
    status: NetworkPeeringStatus = NetworkPeeringStatus()
