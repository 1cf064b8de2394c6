"""What pods and connections say of agents. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from netfabric.controller import links
from netfabric.controller.agents import AgentConnection
from netfabric.controller.known import Seen
from netfabric.controller.nodes import Pod

COMPONENT_LABEL = "app.kubernetes.io/component"
COMPONENTS = {"fabric-gateway": "gateway", "fabric-node": "node"}
"""Value of the label on an agent's pod, and the agent's role."""


def addresses(pods: Iterable[Pod]) -> dict[tuple[str, str], str]:
    """By role and name, where agents are. Of two pods of one node, while one replaces the other, the newer counts."""
    found = sorted(one for one in map(_agent, pods) if one is not None)
    return {(role, name): address for _, role, name, address in found}


def _agent(pod: Pod) -> tuple[tuple[str, str], str, str, str] | None:
    role = COMPONENTS.get(pod.metadata.labels.get(COMPONENT_LABEL, ""))
    if role is None or not pod.alive or (role == "node" and not pod.spec.node):
        return None
    name = pod.spec.node if role == "node" else pod.metadata.name
    return (pod.metadata.creation_timestamp, pod.metadata.name), role, name, pod.status.addresses[0]


def seen(name: str, connection: AgentConnection | None) -> Seen:
    """An agent for the statuses."""
    if connection is None:
        return Seen(name=name)
    return Seen(
        name=name,
        connected=connection.connected,
        current=connection.current,
        problem=connection.problem,
        state=connection.state,
    )


def reached(connection: AgentConnection | None, nodes: Mapping[str, int]) -> frozenset[str]:
    """Nodes, given with their numbers, that answer this gateway."""
    state = connection.state if connection is not None else None
    passing = {one.name for one in state.probes if one.passing} if state is not None else set()
    return frozenset(name for name, number in nodes.items() if links.node_link(number) in passing)


def digest(connection: AgentConnection) -> object:
    """What of an agent's word is news; measures are not."""
    state = connection.state
    if state is None:
        return (connection.connected, connection.problem)
    return (
        connection.connected,
        connection.problem,
        connection.current,
        state.standby,
        tuple(state.capabilities),
        tuple((one.object, one.reason, one.message) for one in state.applied.problems),
        tuple((one.name, one.passing) for one in state.probes),
        tuple((one.name, one.up, one.mtu, tuple(w.endpoint for w in one.wireguard_peers)) for one in state.links),
    )
