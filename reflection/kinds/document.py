"""Objects of any kind, of which only the parts that travel are kept.

A kind says which top-level fields it copies; the rest of an object is never decoded. Each part stays raw until a
reconcile wants it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

import msgspec
from msgspec import Raw
from msgspec.structs import force_setattr

from kube.objects import Metadata

ABSENT = Raw(b"")


class Document(msgspec.Struct, frozen=True, gc=False):
    """Metadata and the parts named to `document_type`."""

    metadata: Metadata = Metadata()

    def __post_init__(self) -> None:
        for name in self.__struct_fields__[1:]:
            force_setattr(self, name, getattr(self, name).copy())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.metadata.namespace}/{self.metadata.name})"  # never Secret data

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("name", self.metadata.name)]

    def json(self) -> dict[str, Any]:
        """Metadata and parts as plain JSON, a new one each time; absent and null parts are left out."""
        found: dict[str, Any] = {"metadata": msgspec.to_builtins(self.metadata)}
        for name in self.__struct_fields__[1:]:
            raw: Raw = getattr(self, name)
            if raw and raw != _NULL:
                found[name] = msgspec.json.decode(raw)
        return found


_NULL = Raw(b"null")


@lru_cache(maxsize=256)
def document_type(parts: tuple[str, ...]) -> type[Document]:
    """The Document with these top-level fields."""
    made: Any = msgspec.defstruct(
        "Document",
        [(name, Raw, ABSENT) for name in parts],
        bases=(Document,),
        frozen=True,
        gc=False,
        namespace={"__repr__": Document.__repr__},
    )
    return cast("type[Document]", made)
