"""What each agent shall have. Pure: from the world as it is known to one whole state for each agent.

A node knows gateways and peers' networks, never other nodes; a gateway knows each node once. So a node's state grows
with the peers, a gateway's with peers and nodes, and neither with their product. Both ends of a link are computed from
the same facts.

A pod's packet to a peer: node's route to the gateway's link, gateway's peer rules (policy, then the peer's own address
in place of what stands for it here), tunnel. The answer: tunnel, the same rules back, the gateway's route to the
destination's node over the link.

Without peers nobody has anything in its kernel: so agents whose pods are removed afterwards leave nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network

from netfabric._pb import fabric_pb2 as pb
from netfabric.controller import links
from netfabric.controller.facts import Agent, PeerFacts, TunnelFacts, World
from netfabric.controller.policy import policy
from netfabric.plan import probes
from netfabric.plan.model import Kind
from netfabric.plan.probes import RESPONDER_PORT
from netfabric.plan.spans import spans

CONTRACT = 1
KEEPALIVE_SECONDS = 20
PARALLEL = "parallel-links"
"""The feature of agents that may be told of several tunnels to one peer."""


def gateway(world: World, agent: Agent) -> pb.DesiredState:
    """A gateway's state. The ones that wait have all but the tunnels."""
    standby = agent.name != world.active
    state = _begin(world, agent, role=pb.ROLE_GATEWAY)
    state.standby = standby
    if not world.peers:
        return state
    versions = _versions(world)
    for node in _linked(world.nodes, agent):
        state.links.append(_overlay(links.node_link(node.number), agent, node, gateway=agent.number, node=node.number))
        ends = {version: links.inside(agent.number, node.number, version=version) for version in versions}
        _address(state.links[-1], ends.values())
        state.routes.extend(_inside_routes(world, node, ends))
        state.probes.append(_probe(links.node_link(node.number), ends[versions[0]]))
    for peer in world.peers:
        if peer.technology == "None":
            continue
        state.peers.append(_peer(world, peer))
        for tunnel in tunnels(peer, agent):
            name = links.peer_link(peer.number, tunnel=tunnel.number)
            state.links.append(_tunnel(name, peer, tunnel, agent))
            state.peers[-1].links.append(name)
            state.masquerades.extend(_masquerades(world, name, agent))
            if not standby:
                state.probes.append(_probe(name, links.tunnel(tunnel.public_key, tunnel.peer_key)))
                state.probes[-1].peer = peer.name
    if any(len(peer.links) > 1 for peer in state.peers):
        state.requires.append(PARALLEL)
    state.exports.extend(_exports(world))
    state.probe_answers.extend(_probe_answers(world, agent))
    return state


def node(world: World, agent: Agent) -> pb.DesiredState:
    """A node's state: a link to each gateway, and routes to all peers through the active one."""
    state = _begin(world, agent, role=pb.ROLE_NODE)
    if not world.peers:
        return state
    versions = _versions(world)
    state.keep_sources.extend(world.networks(Kind.POD))
    for one in _linked(world.gateways, agent):
        state.links.append(_overlay(links.gateway_link(one.number), agent, one, gateway=one.number, node=agent.number))
        ends = {version: links.inside(one.number, agent.number, version=version).reversed for version in versions}
        _address(state.links[-1], ends.values())
        state.probes.append(_probe(links.gateway_link(one.number), ends[versions[0]]))
        if one.name == world.active:
            state.routes.extend(_peer_routes(world, links.gateway_link(one.number), ends))
    return state


def _begin(world: World, agent: Agent, *, role: pb.Role.ValueType) -> pb.DesiredState:
    return pb.DesiredState(
        contract=CONTRACT,
        agent=agent.name,
        role=role,
        local_prefixes=world.networks(*Kind),
        responder_port=RESPONDER_PORT,
    )


def _versions(world: World) -> tuple[int, ...]:
    """The families that this cluster has; links need no others."""
    found = sorted({ip_network(text).version for _, text in world.own})
    return tuple(found) or (4,)


# -- inside the cluster


def _linked(others: Iterable[Agent], agent: Agent) -> Iterator[Agent]:
    """Those that a link can be made to: both ends are known, and to what they can."""
    for other in others:
        if agent.number >= 0 and other.number >= 0 and _technology(agent, other) is not None:
            yield other


def _technology(one: Agent, other: Agent) -> pb.Overlay.Technology.ValueType | None:
    both = one.capabilities & other.capabilities
    if "geneve" in both:
        return pb.Overlay.GENEVE
    return pb.Overlay.VXLAN if "vxlan" in both else None


def _overlay(name: str, agent: Agent, other: Agent, *, gateway: int, node: int) -> pb.Link:
    made = pb.Overlay(local=agent.address, remote=other.address, vni=links.vni(gateway, node))
    made.technology = _technology(agent, other) or pb.Overlay.VXLAN
    return pb.Link(name=name, overlay=made)


def _address(link: pb.Link, ends: Iterable[links.Ends]) -> None:
    for one in ends:
        link.addresses.append(f"{one.ours}/{one.prefix}")
        link.neighbours.append(one.theirs)


def _inside_routes(world: World, node: Agent, ends: dict[int, links.Ends]) -> Iterator[pb.Route]:
    for cidr in world.pod_networks.get(node.name, ()):
        way = ends.get(ip_network(cidr).version)
        if way is not None:
            yield pb.Route(prefix=cidr, link=links.node_link(node.number), via=way.theirs, inside=True)


def _peer_routes(world: World, link: str, ends: dict[int, links.Ends]) -> Iterator[pb.Route]:
    for peer in world.peers:
        if peer.technology == "None":
            continue
        for one in peer.networks:
            way = ends.get(one.mapping.inner.version)
            if way is not None:
                yield pb.Route(prefix=str(one.mapping.inner), link=link, via=way.theirs, source=way.ours)


def _probe(name: str, ends: links.Ends) -> pb.ProbeTarget:
    """The path over a link, named as that."""
    return pb.ProbeTarget(name=name, address=ends.theirs, source=ends.ours, port=RESPONDER_PORT)


def _probe_answers(world: World, agent: Agent) -> Iterator[pb.ProbeAnswer]:
    """By one node that answers this cluster's gateway, if there is one: that others do not is told by the status here.

    If there is none, by one that does not: then peers are not answered, and that is the truth.
    """
    linked = sorted(_linked(world.nodes, agent), key=lambda node: (node.name not in world.reached, node.number))
    if not linked:
        return
    # Two networks may begin with the same address.
    versions = {probes.address(cidr): ip_network(cidr).version for cidr in world.networks(Kind.POD)}
    for shown, version in versions.items():
        target = links.inside(agent.number, linked[0].number, version=version).theirs
        yield pb.ProbeAnswer(shown=shown, target=target)


# -- to peers


def tunnels(peer: PeerFacts, agent: Agent) -> tuple[TunnelFacts, ...]:
    """Those to a peer that a gateway can have: one of an earlier version has the first only."""
    return peer.tunnels if PARALLEL in agent.capabilities else peer.tunnels[:1]


def _tunnel(name: str, peer: PeerFacts, tunnel: TunnelFacts, agent: Agent) -> pb.Link:
    ends = links.tunnel(tunnel.public_key, tunnel.peer_key)
    link = pb.Link(name=name, mtu=peer.mtu)
    _address(link, [ends])
    if peer.technology == "VXLAN":
        host, _, port = peer.endpoint.rpartition(":")
        link.overlay.CopyFrom(
            pb.Overlay(
                technology=pb.Overlay.VXLAN,
                local=agent.address,
                remote=host.strip("[]"),
                vni=links.tunnel_vni(peer.public_key, peer.peer_key),
                port=int(port),
            )
        )
        return link
    other = pb.WireGuardPeer(
        public_key=tunnel.peer_key,
        endpoint=tunnel.endpoint,
        allowed_ips=[*(str(one.mapping.outer) for one in peer.networks), f"{ends.theirs}/32"],
        keepalive_seconds=KEEPALIVE_SECONDS if peer.dials else 0,
    )
    made = pb.WireGuard(private_key=pb.Key(value=tunnel.private_key), listen_port=tunnel.port, peers=[other])
    link.wireguard.CopyFrom(made)
    return link


def _peer(world: World, peer: PeerFacts) -> pb.Peer:
    prefixes = [pb.PrefixMap(real=str(one.mapping.outer), seen=str(one.mapping.inner)) for one in peer.networks]
    return pb.Peer(
        name=peer.name,
        number=peer.number,
        prefixes=prefixes,
        policy=policy(world, peer),
    )


def _masquerades(world: World, link: str, agent: Agent) -> Iterator[pb.Masquerade]:
    """What is no pod, Service or external address of ours gets an address that the peer knows a way back to."""
    own = world.networks(*Kind)
    for version, address in sorted(sources(world, agent).items()):
        keep = [str(one) for one in spans(own) if one.version == version]
        yield pb.Masquerade(link=link, keep=keep, address=address)


def sources(world: World, agent: Agent) -> dict[int, str]:
    """By family: an external network's first address, else the gateway's own, which is a pod's."""
    own = ip_address(agent.address)
    fallback: dict[int, str] = {own.version: agent.address} if _in_pods(world, agent.address) else {}
    return {**fallback, **world.sources}


def _in_pods(world: World, address: str) -> bool:
    return any(ip_address(address) in ip_network(text) for text in world.networks(Kind.POD))


def _exports(world: World) -> Iterator[pb.Export]:
    for shown, target in sorted({pair for peer in world.peers for pair in peer.exports}):
        yield pb.Export(shown=_host(shown), target=_host(target), masquerade=True)


def _host(address: str) -> str:
    return f"{address}/{ip_address(address).max_prefixlen}"
