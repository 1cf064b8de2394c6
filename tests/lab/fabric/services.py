"""What a cluster does for Services, where there is no kubelet: kube-proxy's rules in a node, CoreDNS in a pod.

There is one Service with a cluster IP of each family, of which the pod is the only endpoint: the echo server's port,
which also has a node port, and DNS.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.lab import gobuild
from tests.lab.fabric.places import Place, wait
from tests.lab.fabric.world import POD, POD6, PODS, PODS6, PORT

SERVICES, SERVICES6 = "10.96.0.0/16", "fd96::/112"
SERVICE, SERVICE6 = "10.96.0.10", "fd96::a"
NODE_PORT, DNS_PORT = 30700, 53


def proxy(node: Place) -> None:
    """The rules that kube-proxy makes (mode nftables, told the pods' networks)."""
    node.run(["nft", "-f", "-"], stdin=_PROXY)


@contextmanager
def naming(place: Place, folder: Path, *, name: str, addresses: Sequence[str]) -> Iterator[None]:
    """CoreDNS in a place: it answers with pods' addresses, as for a headless Service."""
    hosts = "\n".join(f"        {address} {name}" for address in addresses)
    corefile = folder / f"Corefile-{place.name}"
    corefile.write_text(f".:{DNS_PORT} {{\n    errors\n    hosts {{\n{hosts}\n    }}\n}}\n")
    program = gobuild.ensure(gobuild.COREDNS) / "coredns"
    server = place.start([program, "-conf", corefile], log=folder / f"coredns-{place.name}.log")
    try:
        wait(lambda: _listens(place), what="CoreDNS to listen", timeout=60)
        yield
    finally:
        server.kill()
        server.wait()


def _listens(place: Place) -> bool:
    sockets = place.run(["ss", "-Hlntu", f"sport = :{DNS_PORT}"])
    return "tcp" in sockets and "udp" in sockets


# What does not come from a pod of the cluster, and what comes to a node port, is masqueraded; so is a pod to itself.
_PROXY = f"""
table inet services {{
    chain cluster {{
        ip saddr != {PODS} meta mark set meta mark | 0x4000
        ip6 saddr != {PODS6} meta mark set meta mark | 0x4000
        dnat ip to {POD}
        dnat ip6 to {POD6}
    }}
    chain node {{
        meta mark set meta mark | 0x4000
        meta l4proto tcp dnat ip to {POD}:{PORT}
        meta l4proto tcp dnat ip6 to [{POD6}]:{PORT}
    }}
    chain services {{
        ip daddr {SERVICE} meta l4proto {{ tcp, udp }} th dport {{ {PORT}, {DNS_PORT} }} goto cluster
        ip6 daddr {SERVICE6} meta l4proto {{ tcp, udp }} th dport {{ {PORT}, {DNS_PORT} }} goto cluster
        fib daddr type local tcp dport {NODE_PORT} goto node
    }}
    chain pre {{ type nat hook prerouting priority dstnat; jump services; }}
    chain out {{ type nat hook output priority -100; jump services; }}
    chain post {{ type nat hook postrouting priority srcnat; meta mark & 0x4000 == 0x4000 masquerade; }}
}}
"""


def external_address(name: str, address: str) -> dict[str, Any]:
    """Shows an address beside the cluster to its peers."""
    kind = "ExternalAddress"
    made = {"apiVersion": "networking.isthmus.dev/v1alpha1", "kind": kind, "metadata": {"name": name}}
    return {**made, "spec": {"address": address}}
