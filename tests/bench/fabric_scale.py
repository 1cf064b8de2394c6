"""What many peers and nodes come to: time to compute states, bytes to send, objects in the kernel.

States are computed by the controller's own code and applied by real agents, each in a network namespace that has
a way out and nobody there: the tunnels' other ends do not answer, which takes nothing away from what is counted.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from netfabric._pb import fabric_pb2 as pb
from netfabric.controller import desired
from netfabric.controller.facts import World
from netfabric.plan.allocation import plan
from tests.bench.report import Report, progress
from tests.bench.settings import BenchSettings
from tests.lab.fabric.prefork import Prefork
from tests.lab.fabric.scale import ROLES, agent_of, counted
from tests.lab.fabric.world import AgentProcess
from tests.unit.netfabric.controller.worlds import OWN, alike, sized

_UNITS = {
    "compute": ("time to compute, ms", 1),
    "bytes": ("bytes sent", 0),
    "apply": ("Apply on an empty kernel, s", 2),
    "links": ("interfaces", 0),
    "rules": ("ip rules", 0),
    "routes": ("routes", 0),
    "firewall": ("nft rules", 0),
    "met": ("nft rules that packets of one peer can meet", 0),
    "elements": ("elements of nft sets and maps", 0),
}


def run(settings: BenchSettings, report: Report) -> None:
    """Each number of peers; a gateway's and a node's row of each figure."""
    with tempfile.TemporaryDirectory(prefix="isb-") as folder, ExitStack() as stack:
        prefork = Prefork()
        stack.callback(prefork.close)
        agents = {role: stack.enter_context(agent_of(role, folder=Path(folder), prefork=prefork)) for role in ROLES}
        able = frozenset(agents["gateway"].watch().capabilities)
        for peers in settings.fabric_peers:
            known = sized(peers, nodes=settings.fabric_nodes, capabilities=able)
            whole = [_whole(known, peers) for _ in range(settings.rounds)]
            title = f"{peers} peers, {settings.fabric_nodes} nodes"
            report.add(f"{title}: addresses planned and states of all agents computed, ms", [], whole, digits=0)
            for role, agent in agents.items():
                found = _one(known, agent, settings)
                report.keep("fabric scale", {"peers": peers, "nodes": settings.fabric_nodes, "role": role, **found})
                for key, (what, digits) in _UNITS.items():
                    report.add(f"{title}, {role}: {what}", [], found[key], digits=digits)
            progress(f"fabric: {title} measured")


def _whole(known: World, peers: int) -> float:
    """Milliseconds to plan all peers' addresses and to compute the states of all gateways and nodes."""
    began = time.perf_counter()
    plan(OWN, alike(peers))
    for gateway in known.gateways:
        desired.gateway(known, gateway)
    for node in known.nodes:
        desired.node(known, node)
    return (time.perf_counter() - began) * 1e3


def _state(known: World, role: str) -> pb.DesiredState:
    if role == "gateway":
        return desired.gateway(known, known.gateways[0])
    return desired.node(known, known.nodes[0])


def _one(known: World, agent: AgentProcess, settings: BenchSettings) -> dict[str, list[float]]:
    """One agent: its state and what that comes to, from an empty kernel and back to it."""
    computed = []
    for _ in range(settings.rounds):
        began = time.perf_counter()
        state = _state(known, agent.role)
        computed.append((time.perf_counter() - began) * 1e3)
    began = time.monotonic()
    agent.apply(state)
    found = {"compute": computed, "bytes": [float(state.ByteSize())], "apply": [time.monotonic() - began]}
    found |= {key: [float(count)] for key, count in counted(agent.place, number=1).items()}
    agent.apply(pb.DesiredState(role=ROLES[agent.role]))
    return found
