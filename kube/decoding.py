"""From JSON bytes to objects, with every way it can fail turned into our errors.

msgspec decoders are made once per type. An object that does not decode is looked at again by a
lenient parser for its identity alone, so that it can be skipped without being taken for deleted.
"""

import functools
import json
from collections.abc import Hashable
from typing import Any, TypeVar, cast

import msgspec
from msgspec import Raw

from kube.errors import ProtocolError
from kube.objects import Metadata

T = TypeVar("T")

# DecodeError covers syntax and types; bad UTF-8 and deep nesting come as these.
ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class ListMetadata(msgspec.Struct, frozen=True):
    """metav1.ListMeta."""

    resource_version: str = msgspec.field(name="resourceVersion", default="")
    continue_: str = msgspec.field(name="continue", default="")


class Page(msgspec.Struct, frozen=True):
    """A page of a list with undecoded items."""

    kind: str = ""
    metadata: ListMetadata = ListMetadata()
    items: tuple[Raw, ...] | None = None  # Go writes a nil slice as null.


class _Kind(msgspec.Struct, frozen=True):
    kind: str = ""


_page_decoder = msgspec.json.Decoder(Page)
_kind_decoder = msgspec.json.Decoder(_Kind)


@functools.lru_cache(maxsize=256)
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    """The decoder of a type."""
    return _decoder(cast("Hashable", kind))


def page(body: bytes, *, kind: str, what: str) -> "Page":
    """Decode a page of a list. Raises ProtocolError for anything that is not one."""
    try:
        found = _page_decoder.decode(body)
    except ERRORS as error:
        raise ProtocolError(f"{what}: {_words(body, error)}") from None
    if found.kind != kind:
        raise ProtocolError(f"{what}: a {found.kind[:80] or 'nameless thing'} instead of a {kind}")
    if not found.metadata.resource_version and not kind.endswith("MetricsList"):
        raise ProtocolError(f"{what}: list without resourceVersion")
    return found


def whole(body: bytes, *, decode: type[T], kind: str | None, what: str) -> T:
    """Decode the answer to a request for one object; ``kind`` None accepts any but a failure."""
    try:
        found = _kind_decoder.decode(body)
        if kind is not None and found.kind != kind:
            raise ProtocolError(f"{what}: a {found.kind[:80] or 'nameless thing'} instead of a {kind}")
        return decoder(decode).decode(body)
    except ERRORS as error:
        raise ProtocolError(f"{what}: {_words(body, error)}") from None


def salvage(raw: Raw | bytes) -> Metadata | None:
    """The identity of an object that does not decode, or None if even that cannot be read."""
    try:
        document = json.loads(bytes(raw).decode("utf-8", "replace"))
        metadata = document["metadata"]
        found = {key: metadata.get(key) for key in ("name", "namespace", "uid", "resourceVersion")}
        return msgspec.convert({k: v for k, v in found.items() if v is not None}, Metadata)
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None


def _words(body: bytes, error: Exception) -> str:
    """What is wrong, without quoting the body."""
    if isinstance(error, msgspec.ValidationError):
        return f"not the expected shape: {error}"
    start = body[:200].lstrip()[:1]
    if start == b"<":
        return f"HTML instead of JSON ({len(body)} bytes)"
    return f"not valid JSON ({len(body)} bytes, {type(error).__name__})"
