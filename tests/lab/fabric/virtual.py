"""A virtual node of one cluster for the other, with the probe that its pod has, and breaks for it to notice."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.lab.paths import ROOT
from netfabric._pb import fabric_pb2 as pb
from netfabric.agent import client
from netfabric.plan.probes import RESPONDER_PORT
from tests.kubectl import eventually
from tests.lab.fabric.agents import ISTHMUS, Json
from tests.lab.fabric.clusters import PEER_PORT, Clusters, Side
from tests.lab.fabric.exchange import LONG
from tests.lab.fabric.places import Place, join
from vk.virtualnode import render

ADDRESS, ADDRESS6 = "10.244.1.9", "fd24:0:0:1::9"
SOON = 10.0
"""Within so many seconds of a break the Node tells of it."""
# What runs beside a virtual kubelet has no rights, so the test's probe has none either.
_CONFINED = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]


class VirtualNode:
    """`side`'s virtual node for `provider`, whose pod's network is a place on the side's node."""

    def __init__(self, side: Side, provider: Side, folder: Path) -> None:
        self.name = f"{provider.name}-virtual"
        self.place = Place(f"{side.name}-virtual-kubelet")
        self._side, self._provider, self._folder = side, provider, folder
        self._socket = f"unix:{folder}/fabric.sock"

    def wire(self) -> None:
        """A pod on the side's bridge."""
        join(self._side.node, "virtual", self.place, "eth0")
        self._side.node.ip("link set virtual master cni0")
        self.place.ip(
            f"address add {ADDRESS}/24 dev eth0",
            f"address add {ADDRESS6}/64 dev eth0 nodad",
            "route add default via 10.244.1.1",
            "route add default via fd24:0:0:1::1",
        )

    def start(self) -> None:
        """The probe in the pod, the virtual kubelet where it reaches both API servers."""
        probe = [*ISTHMUS, "fabric-agent", "--role=probe", f"--name={self.name}", f"--listen={self._socket}"]
        self._probe = self.place.start(
            [*_CONFINED, *probe, f"--state-directory={self._folder}/kept"], log=self._folder / "log"
        )
        options: Json = {
            "node-name": self.name,
            "network-peering": self._provider.name,
            "probe-socket": self._socket,
            "consumer-kubeconfig": self._side.kubectl.kubeconfig,
            "provider-kubeconfig": self._provider.kubectl.kubeconfig,
            "namespace": "default=default",
            "capacity": "cpu=1",
            "node-address": ADDRESS,
            "listen": f"127.0.0.1:{render.KUBELET_PORT}",
            "health-listen": "",
            "state-directory": self._folder,
        }
        argv = [sys.executable, "-P", "-m", "isthmus", "virtual-kubelet"]
        argv += [f"--{name}={value}" for name, value in options.items()]
        self._unit = self._side.host.start("virtual", argv, env={"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"})

    def condition(self, kind: str) -> Json:
        """Of the Node; empty if it has none."""
        status = self._side.kubectl.get("node", self.name)["status"]
        return next((one for one in status["conditions"] if one["type"] == kind), {})

    def until(self, reason: str, *, since: float | None = None) -> Json:
        """NetworkUnavailable once it has this reason, which must be soon after `since`."""

        def told() -> Json:
            found = self.condition("NetworkUnavailable")
            return found if found.get("reason") == reason else {}

        found = eventually(told, what=f"{self.name} to say {reason}", timeout=LONG)
        took = time.monotonic() - since if since is not None else 0.0
        sys.stdout.write(f"{reason} after {took:.1f} s\n")
        assert took < SOON
        return found

    def status(self) -> str:
        """What the probe says of itself to people."""
        return self.place.run([*ISTHMUS, "fabric-agent", "status", f"--address={self._socket}"], check=False)

    def reaches(self, address: str, *, port: int = RESPONDER_PORT) -> bool:
        """Whether the probe, asked for that once, has an answer of another agent."""

        async def ask() -> bool:
            request = pb.ProbeRequest(address=address, port=port, count=1, timeout_milliseconds=500)
            async with client.connect(self._socket) as stub:
                return bool((await stub.Probe(request, timeout=LONG)).passing)

        return asyncio.run(ask())

    @property
    def words(self) -> str:
        """The ends of both logs."""
        file = self._folder / "log"
        probe = "\n".join(file.read_text().splitlines()[-30:]) if file.exists() else ""
        return f"-- virtual kubelet\n{self._unit.log_tail()}\n-- its probe\n{probe}"

    def close(self) -> None:
        """End both."""
        self._unit.stop()
        self.place.close()
        self._probe.wait()
        self._side.kubectl.delete("node", self.name, "--ignore-not-found")


@contextmanager
def virtual_node(side: Side, provider: Side, folder: Path) -> Iterator[VirtualNode]:
    """One that runs, for the time of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    made = VirtualNode(side, provider, folder)
    made.wire()
    made.start()
    try:
        yield made
    finally:
        sys.stdout.write(made.words + "\n")
        made.close()


Break = Callable[[Clusters], tuple[Place, str]]
"""Where a rule of nftables makes it."""


def gateway_there(clusters: Clusters) -> tuple[Place, str]:
    """The provider's gateway answers its peer, and hands on nothing."""
    return clusters.east.gateways[0], 'oifname "isn*" drop'


def node_there(clusters: Clusters) -> tuple[Place, str]:
    """The provider's node does not hear its gateway."""
    return clusters.east.node, 'iifname "isg*" drop'


def full_size(clusters: Clusters) -> tuple[Place, str]:
    """What is large is lost between the clusters without a word."""
    return clusters.router, f"udp dport {PEER_PORT} meta length > 1400 drop"


@contextmanager
def cut(place: Place, rule: str) -> Iterator[float]:
    """A rule on what is routed or arrives, for the time of the block; when that began."""
    hooks = ("input", "forward")
    chains = "".join(f"chain {hook} {{ type filter hook {hook} priority -10; {rule}; }}\n" for hook in hooks)
    place.run(["nft", "-f", "-"], stdin=f"table inet cut {{ {chains} }}")
    try:
        yield time.monotonic()
    finally:
        place.run(["nft", "delete", "table", "inet", "cut"])
