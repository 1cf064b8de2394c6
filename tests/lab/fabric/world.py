"""Two clusters with identical address plans, and a network between them on which only one side can dial.

    pod - node - gateway === router (NAT for the west) === gateway - node - pod
          west                                              east

Each cluster: pods 10.244.0.0/16 and fd24::/48, the pod is .1.5 on the node's .1.0/24; the gateway's own address in its
cluster is 10.9.0.1, the node's 10.9.0.2. West sees east's pods as 10.71.0.0/16 and fd71::/48, east sees west's as
10.72.0.0/16 and fd72::/48. Agents run as programs in the gateways' and nodes' namespaces and are told over gRPC.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from grpc_health.v1 import health_pb2, health_pb2_grpc

from netfabric._pb import fabric_pb2 as pb
from netfabric._pb import fabric_pb2_grpc
from tests.lab.fabric.places import Place, join, wait
from tests.lab.fabric.prefork import Prefork, Process

TRAFFIC = Path(__file__).with_name("traffic.py")
PODS, PODS6 = "10.244.0.0/16", "fd24::/48"
POD, POD6 = "10.244.1.5", "fd24:0:0:1::5"
PORT, PROBES, WIREGUARD = 7000, 7300, 51820
SEEN = {"west": ("10.71.0.0/16", "fd71::/48"), "east": ("10.72.0.0/16", "fd72::/48")}
"""By cluster: how it sees the other's pods."""


_CHANNEL = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    # An agent that is only starting is tried again soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]


def remote(cluster: str, *, version: int = 4) -> str:
    """The other cluster's pod as a cluster sees it."""
    if version == 4:
        return SEEN[cluster][0].replace("0.0/16", "1.5")
    return SEEN[cluster][1].replace("::/48", ":0:0:1::5")


def keypair() -> tuple[bytes, bytes]:
    """(private, public) WireGuard key."""
    key = X25519PrivateKey.generate()
    return key.private_bytes_raw(), key.public_key().public_bytes_raw()


@contextmanager
def serving(place: Place, port: int, *, verb: str = "serve") -> Iterator[None]:
    """An echo server in a place."""
    server = place.start([sys.executable, TRAFFIC, verb, str(port)])
    assert server.stdout is not None
    try:
        assert server.stdout.readline() == "ready\n"
        yield
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


@contextmanager
def streaming(place: Place, address: str, *, verb: str = "stream") -> Iterator[dict[str, Any]]:
    """A TCP stream from a place to an address, running meanwhile; filled in at the end: count, gap, error."""
    process = place.start([sys.executable, TRAFFIC, verb, address, str(PORT)])
    found: dict[str, Any] = {}
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line == "ready\n", line
        yield found
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
        found |= json.loads(out)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()


def dropped(place: Place, name: str) -> int:
    """Packets that were dropped for a reason, as the kernel's table says."""
    items = json.loads(place.run(["nft", "-j", "list", "table", "inet", "isthmus"]))["nftables"]
    counters = [item["counter"] for item in items if "counter" in item]
    return sum(c["packets"] for c in counters if c["name"].partition("_")[0] == name)


_POWER_OFF = """
for link in $(ip -o link | sed -nE 's/^[0-9]+: ((wg|un)-[^:@]*).*/\\1/p'); do ip link del "$link"; done
nft delete table inet isthmus
for family in -4 -6; do
    ip $family rule flush
    ip $family rule add pref 0 lookup local protocol kernel || true  # there, where it was not moved
    ip $family rule add pref 32766 lookup main protocol kernel
    ip $family rule add pref 32767 lookup default protocol kernel
done
conntrack -F 2>/dev/null
"""


class AgentProcess:
    """An agent of a place."""

    def __init__(self, place: Place, *, role: str, folder: Path, prefork: Prefork) -> None:
        self.place = place
        self.role = role
        self.name = place.name
        self._prefork = prefork
        self._folder = folder / place.name
        self._folder.mkdir(parents=True)
        self.log = self._folder / "log"
        self.address = f"unix:{self._folder}/s"
        self.process: Process | None = None
        self._generation = 0
        self.state: pb.DesiredState | None = None

    def start(self, *, leaps: bool = False) -> None:
        """Start it; `ready` waits."""
        options = ["--role", self.role, "--name", self.name, "--listen", self.address]
        argv = ["fabric-agent", *options, "--state-directory", f"{self._folder}/kept"]
        self.process = self._prefork.start(self.place, argv, log=self.log, leaps=leaps)

    def ready(self) -> None:
        """Wait until it answers: long, for in a guest on a busy machine it may take minutes to start."""
        assert self.process is not None
        with self.channel() as channel:
            # By a call: the thread of grpc.channel_ready_future may still look at the channel when that is closed.
            asked = health_pb2_grpc.HealthStub(channel)
            deadline = time.monotonic() + 200
            while time.monotonic() < deadline and not self.process.ended(0):
                with suppress(grpc.RpcError):
                    asked.Check(health_pb2.HealthCheckRequest(), timeout=5, wait_for_ready=True)
                    return
        raise AssertionError(f"{self.name} does not answer:\n{self.log.read_text(errors='replace')[-5000:]}")

    def send(self, number: signal.Signals) -> None:
        """Signal it."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """As a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def power_off(self) -> None:
        """As if its machine went off and came up without it: of the fabric there is only what is on disk."""
        self.kill()
        self.place.run(["sh", "-ec", _POWER_OFF])

    def stop(self) -> None:
        """As its container would be stopped."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=20)
            self.process = None

    def channel(self) -> grpc.Channel:
        """To the agent, to be closed by the caller."""
        return grpc.insecure_channel(self.address, options=_CHANNEL)

    def stub(self, channel: grpc.Channel) -> fabric_pb2_grpc.FabricAgentStub:
        """Calls over a channel."""
        return fabric_pb2_grpc.FabricAgentStub(channel)

    def apply(self, state: pb.DesiredState, *, clean: bool = True) -> pb.AppliedState:
        """Have it apply a state under the next generation."""
        self._generation += 1
        self.state = pb.DesiredState()
        self.state.CopyFrom(state)
        self.state.contract, self.state.agent, self.state.term = 1, self.name, 1
        self.state.generation = self._generation
        with self.channel() as channel:
            applied = fabric_pb2_grpc.FabricAgentStub(channel).Apply(self.state, timeout=120)
        if clean:
            assert not applied.problems, applied
        return applied

    def change(self) -> pb.DesiredState:
        """A copy of the last state, to be changed and applied."""
        copy = pb.DesiredState()
        assert self.state is not None
        copy.CopyFrom(self.state)
        return copy

    def watch(self) -> pb.AgentState:
        """Its state now."""
        with self.channel() as channel:
            found = fabric_pb2_grpc.FabricAgentStub(channel).Watch(pb.WatchRequest(interval_seconds=1), timeout=10)
            return next(iter(found))

    def dropped(self, name: str) -> int:
        """Packets that were dropped there for a reason."""
        return dropped(self.place, name)


@dataclass
class Cluster:
    """One side."""

    name: str
    gateway: Place
    node: Place
    pod: Place
    keys: tuple[bytes, bytes] = field(default_factory=keypair)
    agents: dict[str, AgentProcess] = field(default_factory=dict)

    @property
    def gateway_agent(self) -> AgentProcess:
        return self.agents["gateway"]

    @property
    def node_agent(self) -> AgentProcess:
        return self.agents["node"]

    @property
    def remote(self) -> str:
        """The other side's pod, IPv4."""
        return remote(self.name)

    @property
    def remote6(self) -> str:
        """The other side's pod, IPv6."""
        return remote(self.name, version=6)

    def traffic(self, *words: str | int) -> list[str | Path]:
        """A command of traffic.py."""
        return [sys.executable, TRAFFIC, *(str(word) for word in words)]

    def pings(self, address: str, *, size: int = 56, count: int = 1, fragment: bool = True) -> bool:
        """Whether the pod gets an echo."""
        dont = [] if fragment else ["-M", "do"]
        return self.pod.succeeds(
            ["ping", "-q", "-c", str(count), "-i", "0.2", "-W", "2", "-s", str(size), *dont, address]
        )


class World:
    """Both clusters and the router between."""

    def __init__(self, folder: Path) -> None:
        self.router = Place("router")
        self.folder = folder
        self.west = self._cluster("west")
        self.east = self._cluster("east")
        self._servers = ExitStack()
        self.prefork = Prefork()

    @property
    def clusters(self) -> tuple[Cluster, Cluster]:
        return self.west, self.east

    @property
    def places(self) -> list[Place]:
        return [self.router, *(place for c in self.clusters for place in (c.gateway, c.node, c.pod))]

    def other(self, cluster: Cluster) -> Cluster:
        return self.east if cluster is self.west else self.west

    def up(self) -> None:
        """Cables, servers, agents and their states."""
        self.router.forward()
        for number, cluster in enumerate(self.clusters, start=1):
            self._wire(cluster, number)
        # Only the west can dial: its packets leave under the router's address.
        self.router.run(["nft", "-f", "-"], stdin=_NAT)
        for cluster in self.clusters:
            self._servers.enter_context(serving(cluster.pod, PORT))
            for role in ("gateway", "node"):
                place = getattr(cluster, role)
                cluster.agents[role] = agent = AgentProcess(place, role=role, folder=self.folder, prefork=self.prefork)
                agent.start()
        for cluster in self.clusters:
            for agent in cluster.agents.values():
                agent.ready()
            cluster.gateway_agent.apply(self.gateway_state(cluster))
            cluster.node_agent.apply(self.node_state(cluster))

    def down(self) -> None:
        """End all of it."""
        for cluster in self.clusters:
            for agent in cluster.agents.values():
                if agent.process is not None:
                    agent.kill()
        self._servers.close()
        self.prefork.close()
        for place in self.places:
            place.close()

    def gateway_state(self, cluster: Cluster) -> pb.DesiredState:
        """What a gateway is told."""
        other = self.other(cluster)
        mine, theirs = ("1", "2") if cluster is self.west else ("2", "1")
        seen, seen6 = SEEN[cluster.name]
        return pb.DesiredState(
            role=pb.ROLE_GATEWAY,
            links=[
                pb.Link(
                    name=f"wg-{other.name}",
                    addresses=[f"169.254.18.{mine}/30", f"fd18::{mine}/64"],
                    neighbours=[f"169.254.18.{theirs}", f"fd18::{theirs}"],
                    wireguard=pb.WireGuard(
                        private_key=pb.Key(value=cluster.keys[0]),
                        listen_port=WIREGUARD,
                        peers=[
                            pb.WireGuardPeer(
                                public_key=other.keys[1],
                                endpoint=f"10.0.2.2:{WIREGUARD}" if cluster is self.west else "",
                                allowed_ips=[PODS, PODS6, f"169.254.18.{theirs}/32", f"fd18::{theirs}/128"],
                                keepalive_seconds=5 if cluster is self.west else 0,
                            )
                        ],
                    ),
                ),
                pb.Link(
                    name="un-1",
                    addresses=["169.254.20.1/30", "fd20::1/64"],
                    neighbours=["169.254.20.2", "fd20::2"],
                    overlay=pb.Overlay(local="10.9.0.1", remote="10.9.0.2", vni=101),
                ),
            ],
            peers=[
                pb.Peer(
                    name=other.name,
                    number=7,
                    links=[f"wg-{other.name}"],
                    prefixes=[pb.PrefixMap(real=PODS, seen=seen), pb.PrefixMap(real=PODS6, seen=seen6)],
                    policy=pb.Policy(reachable=[PODS, PODS6], openers=[PODS, PODS6]),
                )
            ],
            local_prefixes=[PODS, PODS6, "10.9.0.0/24"],
            routes=[
                pb.Route(prefix="10.244.1.0/24", link="un-1", via="169.254.20.2", inside=True),
                pb.Route(prefix="fd24:0:0:1::/64", link="un-1", via="fd20::2", inside=True),
            ],
            probes=[
                pb.ProbeTarget(
                    name=other.name,
                    peer=other.name,
                    address=f"169.254.18.{theirs}",
                    port=PROBES,
                    interval_milliseconds=500,
                )
            ],
            responder_port=PROBES,
        )

    def node_state(self, cluster: Cluster) -> pb.DesiredState:
        """What a node is told."""
        seen, seen6 = SEEN[cluster.name]
        return pb.DesiredState(
            role=pb.ROLE_NODE,
            links=[
                pb.Link(
                    name="un-gw",
                    addresses=["169.254.20.2/30", "fd20::2/64"],
                    neighbours=["169.254.20.1", "fd20::1"],
                    overlay=pb.Overlay(local="10.9.0.2", remote="10.9.0.1", vni=101),
                )
            ],
            local_prefixes=[PODS, PODS6, "10.9.0.0/24"],
            routes=[
                pb.Route(prefix=seen, link="un-gw", via="169.254.20.1"),
                pb.Route(prefix=seen6, link="un-gw", via="fd20::1"),
            ],
            keep_sources=[PODS, PODS6],
            responder_port=PROBES,
        )

    @contextmanager
    def stream(self, cluster: Cluster, *, address: str = "", verb: str = "stream") -> Iterator[dict[str, Any]]:
        """A TCP stream from a pod to the other's, running meanwhile; filled in at the end: count, gap, error."""
        with streaming(cluster.pod, address or cluster.remote, verb=verb) as found:
            yield found

    def connected(self) -> bool:
        """Whether a small packet goes both ways."""
        return self.west.pings(self.west.remote) and self.east.pings(self.east.remote)

    def await_connected(self, *, timeout: float = 20) -> None:
        """Wait for it."""
        wait(self.connected, what="pings both ways", timeout=timeout)

    def _cluster(self, name: str) -> Cluster:
        gateway, node, pod = (Place(f"{name}-{role}") for role in ("gateway", "node", "pod"))
        return Cluster(name, gateway, node, pod)

    def _wire(self, cluster: Cluster, number: int) -> None:
        join(self.router, f"to-{cluster.name}", cluster.gateway, "wan")
        self.router.ip(f"address add 10.0.{number}.1/24 dev to-{cluster.name}")
        join(cluster.node, "cni", cluster.gateway, "cni")
        cluster.gateway.ip(
            f"address add 10.0.{number}.2/24 dev wan",
            f"route add default via 10.0.{number}.1",
            "address add 10.9.0.1/24 dev cni",
        )
        join(cluster.node, "to-pod", cluster.pod, "eth0")
        cluster.node.ip(
            # As with a CNI's bridge, what the node itself sends to a pod does not come from the node's own address.
            "address add 10.9.0.77/24 dev cni",
            "address add 10.9.0.2/24 dev cni",
            "address add 10.244.1.1/24 dev to-pod",
            "address add fd24:0:0:1::1/64 dev to-pod nodad",
        )
        cluster.node.forward()
        cluster.pod.ip(
            f"address add {POD}/24 dev eth0",
            f"address add {POD6}/64 dev eth0 nodad",
            "route add default via 10.244.1.1",
            "route add default via fd24:0:0:1::1",
        )
        # What a CNI does that masquerades all that leaves for anywhere else.
        cluster.node.run(["nft", "-f", "-"], stdin=CNI)


_NAT = """
table ip nat {
    chain post { type nat hook postrouting priority srcnat; oifname "to-east" ip saddr 10.0.1.0/24 masquerade; }
    chain forward { type filter hook forward priority 0; iifname "to-east" ct state new drop; }
}
"""
CNI = """
table ip cni {
    chain post {
        type nat hook postrouting priority srcnat; ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 masquerade;
    }
}
table ip6 cni {
    chain post { type nat hook postrouting priority srcnat; ip6 saddr fd24::/48 ip6 daddr != fd24::/48 masquerade; }
}
"""


@contextmanager
def connected() -> Iterator[World]:
    """A world whose clusters reach each other, for the time of the block."""
    with tempfile.TemporaryDirectory(prefix="isf-") as folder:
        made = World(Path(folder))
        try:
            made.up()
            made.await_connected()
            yield made
        finally:
            made.down()
