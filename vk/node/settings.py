"""What the user says about a virtual node, checked before anything is made of it.

Defaults and limits follow the kubelet's own (k8s.io/kubernetes/pkg/kubelet) and what a node identity may set under
the NodeRestriction admission plugin (plugin/pkg/admission/noderestriction,
k8s.io/kubelet/pkg/apis/well_known_labels.go).
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from kube.quantities import Quantity, QuantityError

MARKER_LABEL = "offloading.isthmus.dev/node"
APPLIED_ANNOTATION = "offloading.isthmus.dev/applied"

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_VERSION = re.compile(r"v\d+\.\d+\.\d+([-+.][0-9A-Za-z.+-]+)?")
_NATIVE = ("cpu", "memory", "ephemeral-storage", "pods")

_KUBELET_LABELS = frozenset(
    (
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
    )
)
_KUBELET_NAMESPACES = ("kubelet.kubernetes.io", "node.kubernetes.io")
_RESTRICTED_NAMESPACES = ("kubernetes.io", "k8s.io")

Effect = Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


class SettingsError(ValueError):
    """A setting cannot be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint the Node is created with (a node identity cannot change taints later)."""

    key: str
    value: str = ""
    effect: Effect = "NoSchedule"

    @classmethod
    def parse(cls, text: str) -> "Taint":
        """Read `key[=value]:Effect`, as kubectl taint writes it."""
        rest, colon, effect = text.rpartition(":")
        key, _, value = rest.partition("=")
        if effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute") or not colon:
            message = f"taint {text!r}: write key[=value]:NoSchedule, :PreferNoSchedule or :NoExecute"
            raise SettingsError(message)
        check_qualified(key, what="taint key")
        check_label_value(value, what=f"taint {key}")
        return cls(key, value, "NoSchedule" if effect == "NoSchedule" else _other_effect(effect))


def _other_effect(effect: str) -> Effect:
    return "NoExecute" if effect == "NoExecute" else "PreferNoSchedule"


DEFAULT_TAINT = Taint("virtual-kubelet.io/provider", "isthmus", "NoSchedule")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """A virtual node as the user wants it. Construction checks every field; SettingsError says what is wrong.

    name: of the Node, an RFC 1123 subdomain. addresses: IPs (InternalIP) at which the API server reaches our kubelet
    API. port: of the kubelet API. hostname: published as a Hostname address if given; leave empty unless it resolves
    at the API server, which with default flags prefers it. labels and annotations: more than the standard ones;
    labels must be such as a node identity may set. kubelet_version: what the Node reports, `v1.34.4`; must be semver,
    take the provider's. runtime_version: of isthmus itself, `scheme://version`.
    """

    name: str
    addresses: tuple[str, ...]
    port: int = 10250
    hostname: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = (DEFAULT_TAINT,)
    os: str = "linux"
    arch: str = "amd64"
    kubelet_version: str = "v0.0.0"
    runtime_version: str = "isthmus://0.1.0"

    def __post_init__(self) -> None:
        check_node_name(self.name)
        if not self.addresses:
            message = "a node needs at least one address at which the API server reaches it"
            raise SettingsError(message)
        for address in self.addresses:
            _check_address(address)
        if len(set(self.addresses)) != len(self.addresses):
            message = f"the same address is given twice: {', '.join(self.addresses)}"
            raise SettingsError(message)
        if not 0 < self.port < 65536:
            message = f"kubelet port {self.port} is not in 1-65535"
            raise SettingsError(message)
        if self.hostname:
            check_node_name(self.hostname)
        if not _VERSION.fullmatch(self.kubelet_version):
            message = f"kubelet version {self.kubelet_version!r} does not look like v1.34.4"
            raise SettingsError(message)
        check_labels(self.labels)
        for key in self.annotations:
            check_qualified(key, what="annotation")


def check_node_name(name: str) -> None:
    """Refuse what is not an RFC 1123 subdomain (of at most 253 characters)."""
    if len(name) > 253 or not _SUBDOMAIN.fullmatch(name):
        message = f"node name {name[:80]!r} is not an RFC 1123 subdomain (lower case letters, digits, '-' and '.')"
        raise SettingsError(message)


def check_qualified(key: str, *, what: str) -> None:
    """Refuse what is not a qualified name (`[prefix/]name`), the form of label, annotation and resource names."""
    prefix, slash, name = key.rpartition("/")
    if not _NAME.fullmatch(name) or (slash and (len(prefix) > 253 or not _SUBDOMAIN.fullmatch(prefix))):
        message = f"{what} {key[:80]!r} is not a qualified name ([prefix/]name)"
        raise SettingsError(message)


def check_label_value(value: str, *, what: str) -> None:
    """Refuse what is not a label value (RFC 1123 characters, at most 63, or empty)."""
    if value and not _NAME.fullmatch(value):
        message = f"{what}: {value[:80]!r} is not a label value"
        raise SettingsError(message)


def label_allowed(key: str) -> bool:
    """Whether NodeRestriction lets a node identity set this label on its own Node."""
    prefix = key.rpartition("/")[0]
    if _within(prefix, ("node-restriction.kubernetes.io",)):
        return False
    if not _within(prefix, _RESTRICTED_NAMESPACES):
        return True
    return key in _KUBELET_LABELS or _within(prefix, _KUBELET_NAMESPACES)


def _within(prefix: str, domains: Iterable[str]) -> bool:
    return any(prefix == domain or prefix.endswith("." + domain) for domain in domains)


def check_labels(labels: Mapping[str, str]) -> None:
    """Refuse labels that a node identity may not set on its own Node, or that are none."""
    for key, value in labels.items():
        check_qualified(key, what="label")
        check_label_value(value, what=f"label {key}")
        if not label_allowed(key):
            message = f"label {key}: NodeRestriction does not let a node set it on itself; an administrator can add it"
            raise SettingsError(message)
        if key == MARKER_LABEL:
            message = f"label {key} is isthmus' own mark"
            raise SettingsError(message)


def _check_address(address: str) -> None:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError as error:
        message = f"node address {address!r} is not an IP address"
        raise SettingsError(message) from error
    if parsed.is_unspecified or parsed.is_multicast:
        message = f"node address {address} is none that an API server could connect to"
        raise SettingsError(message)


def parse_resources(text: str) -> dict[str, Quantity]:
    """Read `cpu=4,memory=8Gi,pods=110,nvidia.com/gpu=2`; SettingsError if an amount is not one the API server takes."""
    resources: dict[str, Quantity] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, equals, amount = item.partition("=")
        if not equals or name in resources:
            message = f"capacity {item!r}: write name=quantity, each name once"
            raise SettingsError(message)
        resources[name] = _resource(name, amount)
    return resources


def _resource(name: str, amount: str) -> Quantity:
    if name not in _NATIVE and not name.startswith("hugepages-") and "/" not in name:
        message = f"capacity {name!r}: is neither of {', '.join(_NATIVE)}, hugepages-<size> nor domain/name"
        raise SettingsError(message)
    check_qualified(name, what="resource")
    try:
        quantity = Quantity.parse(amount)
    except QuantityError as error:
        message = f"capacity {name}: {error}"
        raise SettingsError(message) from error
    if quantity.nanos < 0 or (name not in ("cpu", "memory", "ephemeral-storage") and not quantity.whole):
        message = f"capacity {name}: {amount} is negative or not a whole number"
        raise SettingsError(message)
    return quantity
