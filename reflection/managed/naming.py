"""How a consumer's namespace is called at a managed provider, and whose namespace is whose. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase

from api.offloading.namespaces import NamespaceMap, NamespaceMapSpec
from kube.objects import Metadata
from reflection.forge import names
from reflection.managed.names import MAP_ANNOTATION
from reflection.mapping import default_name


class DeniedError(Exception):
    """The name that a NamespaceMap asks for is not to be had by consumers."""


def spec_for(namespace: str, remote: str, *, consumer_id: str) -> NamespaceMapSpec:
    """What the consumer writes to have its namespace called `remote`."""
    if remote == default_name(namespace, consumer_id=consumer_id):
        return NamespaceMapSpec(namespace_mapping="DefaultName")
    if remote == namespace:
        return NamespaceMapSpec(namespace_mapping="EnforceSameName")
    return NamespaceMapSpec(namespace_mapping="SelectedName", remote_namespace=remote)


def wanted(asked: NamespaceMap, *, consumer_id: str, reserved: Iterable[str], allowed: Collection[str] = ()) -> str:
    """The name that a NamespaceMap asks for; `allowed` are patterns, none for any. Raises `DeniedError`."""
    name = named(asked, consumer_id=consumer_id)
    if any(fnmatchcase(name, pattern) for pattern in reserved):
        raise DeniedError(f"namespace {name!r} is reserved at the provider: map to another one")
    if allowed and not any(fnmatchcase(name, pattern) for pattern in allowed):
        raise DeniedError(
            f"namespace {name!r} is not what the provider allows ({', '.join(allowed)}): map to another one"
        )
    return name


def named(asked: NamespaceMap, *, consumer_id: str) -> str:
    """The name that a NamespaceMap comes to, allowed or not."""
    match asked.spec.namespace_mapping:
        case "DefaultName":
            return default_name(asked.metadata.name, consumer_id=consumer_id)
        case "EnforceSameName":
            return asked.metadata.name
        case _:
            return asked.spec.remote_namespace or ""


def reference(asked: Metadata) -> str:
    """What a namespace says of the NamespaceMap that it was made for."""
    return f"{asked.namespace}/{asked.name}"


def is_made_for(namespace: Metadata, asked: Metadata, *, consumer_id: str) -> bool:
    """Whether we made this namespace for this NamespaceMap."""
    ours = namespace.labels.get(names.CONSUMER_LABEL) == names.label_value(consumer_id)
    return ours and namespace.annotations.get(MAP_ANNOTATION) == reference(asked)
