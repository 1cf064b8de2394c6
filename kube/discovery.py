"""Whether an API server has a resource at all, by its own word.

A 404 alone does not say so: a load balancer in front of it answers the same while it knows no server (fault F17), and
who takes that for "there are none" may remove what is in use.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from kube.errors import ApiError
from kube.resources import Resource

T = TypeVar("T")
Read = Callable[[str], Awaitable[bytes]]
"""GET of a path: the body of a 2xx answer, else `ApiError`."""


class _Named(msgspec.Struct, frozen=True):
    name: str


class _ResourceList(msgspec.Struct, frozen=True, tag_field="kind", tag="APIResourceList"):
    resources: list[_Named]


class _Version(msgspec.Struct, frozen=True):
    version: str


class _Group(msgspec.Struct, frozen=True):
    name: str
    versions: list[_Version] = []


class _GroupList(msgspec.Struct, frozen=True, tag_field="kind", tag="APIGroupList"):
    groups: list[_Group]


async def lacks(read: Read, resource: Resource) -> bool:
    """Whether the server lists what it has, and this resource is not in it; the core group's are in every server.

    False also where its answers make no sense. Raises what `read` does, but for 404 of the group's version.
    """
    if not resource.group:
        return False
    try:
        served = _decoded(await read(f"/apis/{resource.api_version}"), _ResourceList)
    except ApiError as error:
        if not error.not_found:
            raise
        groups = _decoded(await read("/apis"), _GroupList)
        return groups is not None and not any(
            group.name == resource.group and any(one.version == resource.version for one in group.versions)
            for group in groups.groups
        )
    return served is not None and all(one.name != resource.plural for one in served.resources)


def _decoded(body: bytes, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
