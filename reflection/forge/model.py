"""The vocabulary of the package: what a forge function is given and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from reflection.forge import names

Json = Mapping[str, Any]
"""A decoded JSON object, not to be modified."""


class Refused(Exception):  # noqa: N818 - it is an answer about a pod, not a failure of the program
    """The pod can't run at the provider as it is. The text is for its owner: which field, why, what to do."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Note:
    """Something the pod's owner should know though the pod runs. `reason` is an event reason in CamelCase."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """A ConfigMap or Secret of the pod's own namespace; optional only if every use of it is."""

    name: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class References:
    """What must be at the provider before the pod can start there. Names are the consumer's.

    `pull_secrets` are not repeated in `secrets`, and a missing one does not hold a pod back (as with a kubelet).
    """

    config_maps: frozenset[Ref] = frozenset()
    secrets: frozenset[Ref] = frozenset()
    pull_secrets: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, order=True)
class TokenSpec:
    """One token for TokenRequest, to be stored under `key` of the Secret `secret` at the provider."""

    secret: str
    key: str
    audience: str
    """Empty: the API server's own audience."""
    expiration_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiAccess:
    """How pods at the provider reach the consumer's API server: an address valid there, in its serving certificate."""

    host: str
    port: int


def _same(ip: str) -> str | None:
    return ip


@dataclass(frozen=True, kw_only=True)
class ForgeContext:
    """What forging needs to know besides the pod. One object serves all pods of a virtual node and namespace."""

    node_name: str
    consumer_id: str
    remote_namespace: str
    node_ips: tuple[str, ...] = ()
    """InternalIPs of the virtual node, the one that stands in status.hostIP first."""
    api_access: ApiAccess | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    """Labels of the provider's nodes that the virtual node stands for: every remote pod asks for them."""
    runtime_classes: Mapping[str, str] = field(default_factory=dict)
    """RuntimeClass at the consumer -> RuntimeClass at the provider; empty: the provider's default."""
    translate: Callable[[str], str | None] = _same
    """Address of a remote pod as the consumer reaches it; None: it can't."""
    dns_servers: tuple[str, ...] = ()
    """Addresses of DNS servers at the provider that know the consumer's names; none: the provider's own are used."""
    cluster_domain: str = "cluster.local"
    """The consumer's."""
    forbidden_ips: frozenset[str] = frozenset()
    """Addresses no pod may claim, in canonical text: the consumer's API servers, DNS, nodes."""
    pod_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """If given, translated pod addresses outside are dropped."""
    labels: Mapping[str, str] = field(init=False)
    """Our labels on every remote pod."""
    root_ca_name: str = field(init=False)
    """Name at the provider of the consumer's ConfigMap kube-root-ca.crt."""

    def __post_init__(self) -> None:
        ours = {
            names.NODE_LABEL: names.label_value(self.node_name),
            names.CONSUMER_LABEL: names.label_value(self.consumer_id),
        }
        object.__setattr__(self, "labels", ours)
        object.__setattr__(self, "root_ca_name", names.root_ca_name(self.consumer_id))

    def config_map_name(self, name: str) -> str:
        """Name at the provider of a ConfigMap of the consumer: the same, but for the cluster's own CA."""
        return self.root_ca_name if name == names.ROOT_CA else name


@dataclass(frozen=True, slots=True)
class ForgedPod:
    """The remote pod to create, and what goes with it."""

    body: dict[str, Any]
    references: References
    notes: tuple[Note, ...] = ()
    token_requests: tuple[TokenSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class Changes:
    """Strategic-merge patches for the remote pod; None where nothing is to be done.

    Send `ephemeral` (subresource ephemeralcontainers) and `resize` (subresource resize) before `patch`: only `patch`
    carries the record of what was sent, so whatever is lost on the way is found again. If the provider refuses the
    resize for good, send `patch` all the same and tell the pod's owner; it is then not tried again until changed.
    """

    patch: dict[str, Any] | None = None
    resize: dict[str, Any] | None = None
    ephemeral: dict[str, Any] | None = None
    notes: tuple[Note, ...] = ()

    def __bool__(self) -> bool:
        return self.patch is not None or self.resize is not None or self.ephemeral is not None
