"""Where a cluster answers peers who ask whether its pods are reached. Pure.

It is the first address of a pod network, so both sides know it without an object or a pod that has it: gateways hand on
what asks there, at the probes' port, to a node that answers. Nothing is taken from a pod that has that address, but
that port, and towards peers only.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network

RESPONDER_PORT = 6092
"""UDP."""


def address(cidr: str) -> str:
    """The address of one pod network."""
    return str(ip_network(cidr).network_address)


def addresses(pod_cidrs: Iterable[str]) -> tuple[str, ...]:
    """What is told to peers: that of the first network of each family."""
    first: dict[int, str] = {}
    for cidr in pod_cidrs:
        try:
            first.setdefault(ip_network(cidr).version, address(cidr))
        except ValueError:
            continue
    return tuple(first.values())
