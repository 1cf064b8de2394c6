"""Four ways between two network namespaces of one machine: isthmus's from pod to pod, and what it is compared with.

veth        one cable
wireguard   a bare WireGuard tunnel between two gateways' namespaces: `wg`, the same implementation, the same router
            between, the same MTU
hops        the same tunnel, with a node and a bare overlay hop on either side: as many namespaces, interfaces and
            headers as isthmus's path has, but no firewall, no translation and no policy in the gateways
isthmus     pod - node - gateway = gateway - node - pod, two clusters with the same addresses (tests/lab/fabric)
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.fabric.places import Place, join
from tests.lab.fabric.world import CNI, WIREGUARD, World, keypair

PORT = 7001
_PROGRAM = Path(__file__).with_name("wire.py")
_NAT = """
table ip bare-nat {
    chain post { type nat hook postrouting priority srcnat; oifname "to-bare-east" ip saddr 10.0.3.0/24 masquerade; }
}
"""


@dataclass(frozen=True, slots=True)
class Way:
    """From one place to an address in another, where a server of wire.py answers."""

    name: str
    client: Place
    server: Place
    address: str

    def measure(self, verb: str, *words: int) -> Any:
        """What wire.py prints. Raises AssertionError."""
        argv: list[str | Path] = [sys.executable, _PROGRAM, verb, self.address, str(PORT), *map(str, words)]
        return json.loads(self.client.run(argv, timeout=120))


@dataclass(frozen=True, slots=True)
class Side:
    """One end of the bare ways."""

    name: str
    number: int
    pods: str
    """The first three numbers of its pods' addresses."""
    gateway: Place
    node: Place
    pod: Place


@contextmanager
def opened(world: World) -> Iterator[list[Way]]:
    """All ways, in the order above; `world` is up and connected."""
    with ExitStack() as stack:
        names = ("veth-west", "veth-east", *(f"bare-{side}-{role}" for side in ("west", "east") for role in _ROLES))
        places = {name: stack.enter_context(_place(name)) for name in names}
        join(places["veth-west"], "cable", places["veth-east"], "cable")
        for number, side in enumerate(("west", "east"), start=1):
            places[f"veth-{side}"].ip(f"address add 10.0.5.{number}/24 dev cable")
        west, east = (
            Side(side, number, pods, *(places[f"bare-{side}-{role}"] for role in _ROLES))
            for number, (side, pods) in enumerate((("west", "10.72.1"), ("east", "10.71.1")), start=1)
        )
        _bare(world, west, east)
        ways = [
            Way("veth", places["veth-west"], places["veth-east"], "10.0.5.2"),
            Way("wireguard", west.gateway, east.gateway, "169.254.18.2"),
            Way("hops", west.pod, east.pod, f"{east.pods}.5"),
            Way("isthmus", world.west.pod, world.east.pod, world.west.remote),
        ]
        for way in ways:
            stack.enter_context(serving(way.server))
        yield ways


@contextmanager
def serving(place: Place) -> Iterator[None]:
    """A server of wire.py in a place."""
    server = place.start([sys.executable, _PROGRAM, "serve", str(PORT)])
    assert server.stdout is not None
    try:
        assert server.stdout.readline() == "ready\n"
        yield
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


_ROLES = ("gateway", "node", "pod")


@contextmanager
def _place(name: str) -> Iterator[Place]:
    place = Place(name)
    try:
        yield place
    finally:
        place.close()


def _bare(world: World, west: Side, east: Side) -> None:
    """Both sides, with the technologies and MTUs that isthmus's agents chose."""
    links = {link.name: link for link in world.west.gateway_agent.watch().links}
    tunnel, overlay = links["wg-east"], links["un-1"]
    world.router.run(["nft", "-f", "-"], stdin=_NAT)
    keys = {side.name: keypair() for side in (west, east)}
    for side, other in ((west, east), (east, west)):
        _underlay(world.router, side)
        private, _ = keys[side.name]
        _wireguard(side, other, private, keys[other.name][1], tunnel=tunnel)
        _overlay(side, other, kind=overlay.technology, mtu=overlay.mtu)


def _underlay(router: Place, side: Side) -> None:
    wan = f"10.0.{side.number + 2}"
    join(router, f"to-bare-{side.name}", side.gateway, "wan")
    router.ip(f"address add {wan}.1/24 dev to-bare-{side.name}")
    side.gateway.ip(f"address add {wan}.2/24 dev wan", f"route add default via {wan}.1")
    join(side.node, "cni", side.gateway, "cni")
    join(side.node, "to-pod", side.pod, "eth0")
    side.gateway.ip("address add 10.9.0.1/24 dev cni")
    side.node.ip("address add 10.9.0.2/24 dev cni", f"address add {side.pods}.1/24 dev to-pod")
    side.pod.ip(f"address add {side.pods}.5/24 dev eth0", f"route add default via {side.pods}.1")
    side.gateway.forward()
    side.node.forward()
    # A node has a CNI's firewall, so conntrack, with or without isthmus.
    side.node.run(["nft", "-f", "-"], stdin=CNI)


def _wireguard(side: Side, other: Side, private: bytes, public: bytes, *, tunnel: Any) -> None:
    gateway = side.gateway
    if "kernel" in tunnel.technology:
        gateway.ip("link add wg0 type wireguard")
    else:
        # In a session of its own, as an agent's is: the kernel shares its processors out by session.
        gateway.run(["setsid", "--wait", "wireguard-go", "wg0"])
    allowed = f"{other.pods}.0/24,169.254.18.{other.number}/32"
    peer = ["peer", base64.b64encode(public).decode(), "allowed-ips", allowed]
    if side.number == 1:
        peer += ["endpoint", f"10.0.{other.number + 2}.2:{WIREGUARD}", "persistent-keepalive", "5"]
    own = ["private-key", "/dev/stdin", "listen-port", str(WIREGUARD)]
    gateway.run(["wg", "set", "wg0", *own, *peer], stdin=base64.b64encode(private).decode() + "\n")
    gateway.ip(
        f"link set wg0 mtu {tunnel.mtu} up",
        f"address add 169.254.18.{side.number}/30 dev wg0",
        f"route add {other.pods}.0/24 dev wg0",
    )


def _overlay(side: Side, other: Side, *, kind: str, mtu: int) -> None:
    for place, mine, theirs in ((side.gateway, 1, 2), (side.node, 2, 1)):
        ends = f"remote 10.9.0.{theirs} dstport 6091"
        how = f"vxlan id 101 local 10.9.0.{mine} nolearning" if kind == "vxlan" else "geneve id 101"
        place.ip(
            f"link add hop type {how} {ends}",
            f"link set hop mtu {mtu} up",
            f"address add 169.254.20.{mine}/30 dev hop",
        )
    side.gateway.ip(f"route add {side.pods}.0/24 via 169.254.20.2")
    side.node.ip(f"route add {other.pods}.0/24 via 169.254.20.1")
