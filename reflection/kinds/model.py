"""What a reflected kind is: a frozen declaration with pure functions, and what those are given and answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from kube.resources import Resource

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The object must not, or can't, be reflected: `reason` in CamelCase, `message` says what to do."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Copy:
    """What the provider's object shall hold."""

    parts: Mapping[str, Any]
    """Top-level fields besides metadata."""
    labels: Mapping[str, str] | None = None
    """Instead of those carried over from the consumer's object."""
    annotations: Mapping[str, str] | None = None
    """Instead of those carried over from the consumer's object."""
    notes: tuple[Refusal, ...] = ()
    """What had to be left out: told, and no obstacle."""


Forged = Copy | Refusal | None
"""None: this object is nothing to the provider, and there is nothing to tell about it."""


class AddressTranslation(Protocol):
    """Where pods and networks of the rest of the world are as the provider's pods see them.

    Both answer None for what can't be reached from there. A change of the answers is told by
    `Reflection.reconsider`.
    """

    def address(self, address: str) -> str | None:
        """An IP address."""

    def network(self, cidr: str) -> str | None:
        """A network in CIDR notation."""


class Identity:
    """A flat network: every address is the same everywhere."""

    def address(self, address: str) -> str | None:
        """See `AddressTranslation`."""
        return address

    def network(self, cidr: str) -> str | None:
        """See `AddressTranslation`."""
        return cidr


@dataclass(frozen=True, slots=True)
class Classes:
    """Class names at the consumer and what they are called at the provider; "" stands for "no class named"."""

    ingress: Mapping[str, str] = field(default_factory=dict)
    load_balancer: Mapping[str, str] = field(default_factory=dict)


def _nobody(_selector: Json) -> int:
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """All that a forge function may know besides the object."""

    consumer_id: str
    provider: str
    """Name of the provider among the consumer's providers."""
    namespace: str
    """The consumer's namespace."""
    remote_namespace: str
    nodes: frozenset[str] = frozenset()
    """Names of all virtual nodes of this provider."""
    translation: AddressTranslation = field(default_factory=Identity)
    classes: Classes = field(default_factory=Classes)
    families: tuple[str, ...] = ()
    """IP families that the provider has (`IPv4`, `IPv6`); empty if not known."""
    external_ips: bool = False
    """Whether the provider's policy lets Services claim external addresses."""
    external_names: bool = False
    """Whether the provider's policy lets Services stand for foreign DNS names."""
    namespaces: Mapping[str, str] = field(default_factory=dict)
    """Every reflected namespace of the consumer, and its name at the provider."""
    healthy_pods: Callable[[Json], int] = _nobody
    """How many ready pods of ours at the provider, in this namespace, a label selector selects."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Another object of the same namespace that has to come along."""

    resource: str
    """Its resource name, such as `secrets`."""
    name: str


def _never(_wanted: Json, _current: Json) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One row of the table. Documents are JSON with `metadata` and the parts; functions must not change them."""

    resource: Resource
    parts: tuple[str, ...]
    """Top-level fields that the functions look at."""
    forge: Callable[[Json, Context], Forged]
    """From the consumer's document to what the provider shall hold."""
    status_back: Callable[[Json, Json, Context], Json | None] | None = None
    """(remote, local, context) -> the consumer's status as it shall be, or None to leave it alone."""
    status_gone: Callable[[Json, Context], Json | None] | None = None
    """(local, context) -> the consumer's status once its copy is gone, or None to leave it alone."""
    opt_in: bool = False
    """Whether only objects are reflected that have the label `offloading.isthmus.dev/reflect: "true"`, or are
    referred to."""
    recreate: Callable[[Json, Json], bool] = _never
    """(wanted, current at the provider) -> whether the change can't be made in place."""
    exact: frozenset[str] = frozenset()
    """Parts that hold nothing at the provider but what is wanted: a key more is removed."""
    lasting: Callable[[Json, Json], bool] = _never
    """(wanted, current at the provider) -> whether the change must have been wanted for a while before it is made, for
    the picture that it rests on may not be up to date."""
    follows: tuple[str, str] | None = None
    """(resource name, label): objects go along with the one of that resource whose name is the label's value."""
    refers: Callable[[Json], Iterable[Reference]] | None = None
    """What has to come along."""
    counts_pods: bool = False
    """Whether `forge` asks for `Context.healthy_pods`."""
    knows_nodes: bool = False
    """Whether `forge` asks for `Context.nodes`."""
    by_default: bool = True
    """Whether the kind is reflected where the configuration does not name it."""

    @property
    def name(self) -> str:
        """The kind's name, for people."""
        return self.resource.kind

    @property
    def resource_name(self) -> str:
        """What configuration calls it: plural and group, as CustomResourceDefinitions are named."""
        group = self.resource.group
        return f"{self.resource.plural}.{group}" if group else self.resource.plural
