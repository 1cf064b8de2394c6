"""Envelopes of Kubernetes objects: metadata typed, spec and status left as bytes.

Decoding a Pod this way costs a few microseconds and about its own size in memory. Fields we do
not know survive because nobody looks at them. ``managedFields`` are dropped: Metadata has no such
field. ``Raw`` fields are copied out of the buffer they were decoded from, so that keeping a Pod
does not keep the list page it came in.

All Structs are immutable: stores hand out the same object to everybody.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import msgspec
from msgspec import Raw
from msgspec.structs import force_setattr

T = TypeVar("T")

if TYPE_CHECKING:
    Timestamp = str
else:
    # API servers send null for an unset time; after decoding it is an empty string.
    Timestamp = str | None

EMPTY = Raw(b"{}")


class OwnerReference(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """metav1.OwnerReference."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False
    block_owner_deletion: bool = False


class Metadata(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """metav1.ObjectMeta without managedFields. Times are RFC 3339 text as the server sent them."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: Timestamp = ""
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()
    generate_name: str = ""

    def __post_init__(self) -> None:
        if not self.creation_timestamp:
            force_setattr(self, "creation_timestamp", "")

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name), the key of stores and queues."""
        return (self.namespace, self.name)


class HasMetadata(Protocol):
    """What stores and reflectors need of an object."""

    @property
    def metadata(self) -> Metadata:
        """The object's metadata."""


class Object(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """Any object with spec and status, e.g. a Pod or a Node. Absent or null parts are ``{}``."""

    metadata: Metadata = Metadata()
    spec: Raw = EMPTY
    status: Raw = EMPTY

    def __post_init__(self) -> None:
        force_setattr(self, "spec", own(self.spec))
        force_setattr(self, "status", own(self.status))


class ConfigMap(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """v1.ConfigMap. ``binary_data`` is base64 text."""

    metadata: Metadata = Metadata()
    data: dict[str, str] = {}
    binary_data: dict[str, str] = {}
    immutable: bool | None = None


class Secret(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """v1.Secret. ``data`` is base64 text and never part of the repr."""

    metadata: Metadata = Metadata()
    type: str = ""
    data: dict[str, str] = {}
    immutable: bool | None = None

    def __repr__(self) -> str:
        return f"Secret({self.metadata.namespace}/{self.metadata.name}, type={self.type!r}, {len(self.data)} keys)"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("name", self.metadata.name), ("keys", len(self.data))]


class ObjectReference(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """v1.ObjectReference."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""
    resource_version: str = ""
    field_path: str = ""


class EventSource(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """v1.EventSource."""

    component: str = ""
    host: str = ""


class EventSeries(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """v1.EventSeries."""

    count: int = 0
    last_observed_time: str | None = None


class Event(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """v1.Event."""

    metadata: Metadata = Metadata()
    involved_object: ObjectReference = ObjectReference()
    reason: str = ""
    message: str = ""
    type: str = ""
    count: int = 0
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    event_time: str | None = None
    source: EventSource = EventSource()
    series: EventSeries | None = None
    reporting_component: str = ""
    reporting_instance: str = ""
    action: str = ""


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """A complete, consistent list.

    ``undecodable`` has the metadata of objects that exist but could not be decoded: they are not in
    ``items`` and must not be taken for deleted.
    """

    items: list[T]
    resource_version: str
    undecodable: list[Metadata] = field(default_factory=list)


class WithMetadata(msgspec.Struct, frozen=True, gc=False):
    """The metadata of any object, for those who need no more."""

    metadata: Metadata = Metadata()


def own(raw: Raw) -> Raw:
    """Copy a Raw out of the buffer it was decoded from; null counts as absent."""
    copied = raw.copy()
    return EMPTY if copied in _ABSENT else copied


def revision(resource_version: str) -> int | None:
    """A resourceVersion as a number, or None where a server uses others.

    Kubernetes' own API servers use etcd's revision, which grows (KEP-5504 makes comparing official).
    """
    return int(resource_version) if resource_version.isascii() and resource_version.isdigit() else None


def to_dict(struct: Any) -> dict[str, Any]:
    """The plain dict of a Struct, Raw parts included, as JSON would have it."""
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(struct))
    return decoded


_ABSENT = (Raw(b"null"), EMPTY)
