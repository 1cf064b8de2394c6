"""The parts of the Node, Lease and CertificateSigningRequest objects that we read.

What is not named here is ignored when read and never written back: all writes are patches of single fields.
"""

from typing import Any

import msgspec

from kube.objects import Metadata


class NodeCondition(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """core/v1 NodeCondition."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_heartbeat_time: str | None = None
    last_transition_time: str | None = None


class NodeAddress(msgspec.Struct, frozen=True):
    """core/v1 NodeAddress."""

    type: str
    address: str


class NodeTaint(msgspec.Struct, frozen=True):
    """core/v1 Taint."""

    key: str
    effect: str
    value: str = ""


class DaemonEndpoint(msgspec.Struct, frozen=True):
    """core/v1 DaemonEndpoint; the only field in the API whose JSON name starts with a capital."""

    port: int = msgspec.field(default=0, name="Port")


class DaemonEndpoints(msgspec.Struct, rename="camel", frozen=True):
    """core/v1 NodeDaemonEndpoints."""

    kubelet_endpoint: DaemonEndpoint = DaemonEndpoint()


class NodeSpec(msgspec.Struct, frozen=True):
    """core/v1 NodeSpec, as far as we look at it."""

    taints: tuple[NodeTaint, ...] = ()
    unschedulable: bool = False


class NodeStatus(msgspec.Struct, rename="camel", frozen=True):
    """core/v1 NodeStatus, as far as we compare it."""

    capacity: dict[str, str] = {}
    allocatable: dict[str, str] = {}
    conditions: tuple[NodeCondition, ...] = ()
    addresses: tuple[NodeAddress, ...] = ()
    daemon_endpoints: DaemonEndpoints = DaemonEndpoints()
    node_info: dict[str, Any] = {}

    def condition(self, kind: str) -> NodeCondition | None:
        """The condition of that type."""
        return next((condition for condition in self.conditions if condition.type == kind), None)


class Node(msgspec.Struct, frozen=True):
    """core/v1 Node."""

    metadata: Metadata
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class LeaseSpec(msgspec.Struct, rename="camel", frozen=True):
    """coordination/v1 LeaseSpec, as far as a node's Lease uses it."""

    holder_identity: str = ""
    lease_duration_seconds: int = 0
    renew_time: str | None = None


class Lease(msgspec.Struct, frozen=True):
    """coordination/v1 Lease."""

    metadata: Metadata
    spec: LeaseSpec = LeaseSpec()


class CsrCondition(msgspec.Struct, frozen=True):
    """certificates/v1 CertificateSigningRequestCondition."""

    type: str
    reason: str = ""
    message: str = ""


class CsrStatus(msgspec.Struct, frozen=True):
    """certificates/v1 CertificateSigningRequestStatus; `certificate` is the issued chain, PEM."""

    conditions: tuple[CsrCondition, ...] = ()
    certificate: bytes = b""


class Csr(msgspec.Struct, frozen=True):
    """certificates/v1 CertificateSigningRequest."""

    metadata: Metadata
    status: CsrStatus = CsrStatus()


class QuotaSpec(msgspec.Struct, rename="camel", frozen=True):
    """core/v1 ResourceQuotaSpec."""

    hard: dict[str, str] = {}
    scopes: tuple[str, ...] = ()
    scope_selector: dict[str, Any] | None = None


class QuotaStatus(msgspec.Struct, frozen=True):
    """core/v1 ResourceQuotaStatus."""

    hard: dict[str, str] = {}
    used: dict[str, str] = {}


class Quota(msgspec.Struct, frozen=True):
    """core/v1 ResourceQuota."""

    metadata: Metadata
    spec: QuotaSpec = QuotaSpec()
    status: QuotaStatus = QuotaStatus()
