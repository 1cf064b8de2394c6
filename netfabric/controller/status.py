"""From what was planned and what agents tell to a NetworkPeering's status. Pure.

Each condition answers one question, in the order in which a person would ask; `Ready` is the first that does not hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec

from api.meta import Condition, with_condition
from api.networking.peering import (
    Connection,
    NetworkPeering,
    NetworkPeeringStatus,
    NodeProblem,
    Paths,
    PlannedNetwork,
)
from netfabric.controller import connection as connections
from netfabric.controller import links
from netfabric.controller.known import Known, Seen
from netfabric.plan.model import Kind, PeerPlan, Problem

MOST_PROBLEMS = 20
_KINDS = {Kind.POD: "Pod", Kind.SERVICE: "Service", Kind.EXTERNAL: "External"}


def status(peering: NetworkPeering, known: Known, *, now: datetime) -> NetworkPeeringStatus:
    """The new status; equal to the old one if nothing has changed."""
    connection, paths = connections.connection(peering, known, now=now), _paths(known)
    tunnels = connections.tunnels(peering, known, now=now)
    shared = connections.sharing(peering, known, tunnels)
    # All others are always told.
    conditions = tuple(one for one in peering.status.conditions if shared or one.type != connections.SHARING)
    told = list(_conditions(peering, known, connection, paths))
    time = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    for one in (*told, _ready(told), *([shared] if shared else [])):
        made = msgspec.structs.replace(one, observed_generation=peering.metadata.generation)
        conditions = with_condition(conditions, made, now=time)
    return NetworkPeeringStatus(
        observed_generation=peering.metadata.generation,
        conditions=conditions,
        public_key=known.public_key,
        port=known.plan.port,
        number=known.plan.number,
        networks=networks(known.plan),
        connection=connection,
        tunnels=tunnels,
        paths=paths,
    )


def networks(plan: PeerPlan) -> tuple[PlannedNetwork, ...]:
    """The plan as the status holds it."""
    return tuple(
        PlannedNetwork(
            kind=_KINDS[one.kind],  # type: ignore[arg-type] # one of the literals
            cidr=str(one.mapping.outer),
            seen_as=str(one.mapping.inner),
            problem=one.problem.message if one.problem is not None else "",
        )
        for one in plan.networks
    )


def alike(old: NetworkPeeringStatus, new: NetworkPeeringStatus) -> bool:
    """Whether two statuses differ in nothing but measures, which need not be written at once."""
    return _bare(old) == _bare(new)


def _bare(shown: NetworkPeeringStatus) -> NetworkPeeringStatus:
    connection = shown.connection
    if connection is None:
        return shown
    bare = msgspec.structs.replace(connection, latency="", loss_percent=0, last_handshake="")
    return msgspec.structs.replace(shown, connection=bare)


# -- conditions


def _conditions(
    peering: NetworkPeering, known: Known, connection: Connection | None, paths: Paths | None
) -> Iterator[Condition]:
    yield _first("Accepted", known.problems, "Accepted", "what both sides declare is complete")
    yield _first("AddressesPlanned", known.plan.problems, *_planned(known.plan))
    if peering.spec.technology == "None":
        yield Condition(type="Connected", status="True", reason="ThirdParty", message="the network is not isthmus'")
        return
    key = [known.key_problem] if known.key_problem is not None else []
    yield _first("KeyReady", key, "KeyReady", f"the public key is {known.public_key}")
    yield _applied(known)
    yield _connected(peering, known, connection)
    yield _nodes(known, paths)


def _first(kind: str, problems: Sequence[Problem], reason: str, message: str) -> Condition:
    if not problems:
        return Condition(type=kind, status="True", reason=reason, message=message)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return Condition(type=kind, status="False", reason=problems[0].reason, message=problems[0].message + more)


def _planned(plan: PeerPlan) -> tuple[str, str]:
    moved = [one.mapping for one in plan.open if one.mapping.outer != one.mapping.inner]
    if not moved:
        return "AsDeclared", "the peer's networks are seen as it declares them"
    return "Remapped", "; ".join(f"{one.outer} is seen as {one.inner}" for one in moved)


def _applied(known: Known) -> Condition:
    for role, agents in (("gateway", known.gateways), ("node", known.nodes)):
        for agent in agents:
            found = _fault(agent)
            if found is not None:
                message = f"{role} {agent.name}: {found.message}"
                return Condition(type="Applied", status="False", reason=found.reason, message=message[:1024])
    if not known.gateways:
        return Condition(type="Applied", status="False", reason="NoGateway", message=_NO_GATEWAY)
    message = f"{len(known.gateways)} gateways and {len(known.nodes)} nodes have what they shall have"
    return Condition(type="Applied", status="True", reason="Applied", message=message)


_NO_GATEWAY = "no gateway runs: apply deploy/network, and look at the pods of isthmus-network"


def _fault(agent: Seen) -> Problem | None:
    if not agent.connected:
        return Problem("AgentNotReached", agent.problem or "not connected yet")
    if agent.problem:
        return Problem("AgentRefused", agent.problem)
    if agent.state is not None and agent.state.applied.problems:
        first = agent.state.applied.problems[0]
        return Problem(first.reason or "NotApplied", f"{first.object}: {first.message}")
    if not agent.current:
        return Problem("Applying", "has not applied the newest state yet")
    return None


def _connected(peering: NetworkPeering, known: Known, connection: Connection | None) -> Condition:
    name = peering.metadata.name
    if connection is None or connection.state == "Unknown":
        message = "nothing is known of the tunnel: " + (
            "no gateway is active" if not known.active else "it is not made"
        )
        return Condition(type="Connected", status="Unknown", reason="NotKnown", message=message)
    if connection.state == "Connected":
        message = f"the gateway of {name} answers in {connection.latency or 'time'}"
        return Condition(type="Connected", status="True", reason="Answers", message=message)
    if connection.state == "Connecting":
        told = f"no handshake with {name} yet: is {connection.endpoint} right and its UDP port open, is our key there?"
        if not connection.endpoint:
            told = f"waiting for {name} to dial in: has it our endpoint and our key?"
        return Condition(type="Connected", status="False", reason="NoHandshake", message=told)
    message = f"the gateway of {name} does not answer at {connection.endpoint or 'where it was last seen'}"
    return Condition(type="Connected", status="False", reason="NoAnswer", message=message)


def _nodes(known: Known, paths: Paths | None) -> Condition:
    if paths is None or not paths.total:
        return Condition(type="NodesConnected", status="Unknown", reason="NoNodes", message="no node has an agent yet")
    if known.without_network:
        names = ", ".join(sorted(known.without_network)[:3])
        told = "no podCIDR within spec.local.podCIDRs, so answers do not find their pods"
        message = f"{len(known.without_network)} nodes have {told}: {names}"
        return Condition(type="NodesConnected", status="False", reason="NoPodNetwork", message=message)
    if paths.ready == paths.total:
        message = f"all {paths.total} nodes reach the gateway"
        return Condition(type="NodesConnected", status="True", reason="AllReach", message=message)
    first = paths.problems[0]
    message = f"{paths.ready} of {paths.total} nodes reach the gateway; {first.node}: {first.message}"
    return Condition(type="NodesConnected", status="False", reason=first.reason, message=message)


def _ready(conditions: Sequence[Condition]) -> Condition:
    for wanted in ("False", "Unknown"):
        for one in conditions:
            if one.status == wanted:
                return Condition(type="Ready", status=one.status, reason=one.reason, message=one.message)
    return Condition(type="Ready", status="True", reason="Ready", message="pods of both clusters reach each other")


# -- what agents measure


def _paths(known: Known) -> Paths | None:
    if not known.nodes:
        return None
    found = [one for one in (_path_problem(agent, known) for agent in known.nodes) if one is not None]
    return Paths(total=len(known.nodes), ready=len(known.nodes) - len(found), problems=tuple(found[:MOST_PROBLEMS]))


def _path_problem(agent: Seen, known: Known) -> NodeProblem | None:
    if not agent.connected or agent.state is None:
        message = agent.problem or "its agent is not connected yet"
        return NodeProblem(node=agent.name, reason="AgentNotReached", message=message)
    active = known.active
    if not active:
        return NodeProblem(node=agent.name, reason="NoGateway", message="no gateway is active")
    probe = next((one for one in agent.state.probes if one.name == links.gateway_link(known.active_number)), None)
    if probe is None:
        return NodeProblem(node=agent.name, reason="NotProbed", message=f"its link to gateway {active} is not made yet")
    if not probe.passing:
        return NodeProblem(node=agent.name, reason="PathBroken", message=f"gateway {active} does not answer")
    return None
