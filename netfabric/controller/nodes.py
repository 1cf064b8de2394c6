"""What the fabric looks at of Nodes and pods."""

from __future__ import annotations

import msgspec

from kube.objects import Metadata


class NodeAddress(msgspec.Struct, frozen=True, gc=False):
    """v1.NodeAddress."""

    type: str = ""
    address: str = ""


class NodeSpec(msgspec.Struct, frozen=True, gc=False):
    """The networks of a node's pods."""

    cidr: str | None = msgspec.field(name="podCIDR", default=None)
    cidrs: tuple[str, ...] | None = msgspec.field(name="podCIDRs", default=None)

    @property
    def networks(self) -> tuple[str, ...]:
        """Of both families."""
        return self.cidrs or ((self.cidr,) if self.cidr else ())


class NodeStatus(msgspec.Struct, frozen=True, gc=False):
    """Where a node is."""

    addresses: tuple[NodeAddress, ...] | None = None


class Node(msgspec.Struct, frozen=True, gc=False):
    """What is kept of a Node."""

    metadata: Metadata = Metadata()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its own, without names."""
        given = self.status.addresses or ()
        return tuple(one.address for one in given if one.type in ("InternalIP", "ExternalIP"))


class PodSpec(msgspec.Struct, frozen=True, gc=False):
    """Where a pod is."""

    node: str = msgspec.field(name="nodeName", default="")


class PodIP(msgspec.Struct, frozen=True, gc=False):
    """v1.PodIP."""

    ip: str = ""


class PodStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """How a pod is."""

    phase: str = ""
    pod_ip: str = msgspec.field(name="podIP", default="")
    pod_ips: tuple[PodIP, ...] | None = msgspec.field(name="podIPs", default=None)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Of both families."""
        return tuple(one.ip for one in self.pod_ips or () if one.ip) or ((self.pod_ip,) if self.pod_ip else ())


class Pod(msgspec.Struct, frozen=True, gc=False):
    """What is kept of a Pod."""

    metadata: Metadata = Metadata()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def alive(self) -> bool:
        """Whether its addresses are its own."""
        return bool(self.status.addresses) and self.status.phase not in ("Succeeded", "Failed")
