"""A guard is on as long as there is something that needs it, whoever ends it and in which order."""

from typing import Any

import pytest

from kube.guard import Guard, Installation, InUse
from kube.objects import Metadata

MADE = Installation(
    name="in-use", message="no", namespace="own", program="p", roles=("p",), labels={}, field_manager="p"
)


class Server:
    """An API server with nothing but names."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.requests = 0

    async def apply(self, resource: Any, _body: Any, **_: Any) -> None:
        self.requests += 1
        self.there.add(resource.kind)

    async def delete(self, resource: Any, **_: Any) -> None:
        self.requests += 1
        self.there.discard(resource.kind)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def found() -> list[Metadata]:
    return []


@pytest.fixture
def in_use(server: Any, found: list[Metadata]) -> InUse:
    return InUse(Guard(server, MADE, check=lambda: None), lambda: found)


def meta(name: str) -> Metadata:
    return Metadata(name=name, uid=f"uid-of-{name}")


async def test_it_is_held_until_the_last_is_done(in_use: InUse, server: Server, found: list[Metadata]) -> None:
    found += [meta("a"), meta("b")]
    await in_use.hold()
    assert len(server.there) == 2
    await in_use.release(meta("a"))  # still seen
    assert len(server.there) == 2
    await in_use.release(meta("b"))
    assert not server.there


async def test_a_new_one_of_the_same_name_holds_it(in_use: InUse, server: Server, found: list[Metadata]) -> None:
    found.append(meta("a"))
    await in_use.hold()
    await in_use.release(meta("a"))
    found[:] = [Metadata(name="a", uid="another")]
    await in_use.hold()
    await in_use.settle()
    assert len(server.there) == 2


async def test_what_was_held_before_we_began_is_let_go_if_nothing_is_left(in_use: InUse, server: Server) -> None:
    server.there = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
    await in_use.settle()
    assert not server.there


async def test_holding_again_asks_nothing(in_use: InUse, server: Server, found: list[Metadata]) -> None:
    found.append(meta("a"))
    await in_use.hold()
    asked = server.requests
    await in_use.hold()
    assert server.requests == asked
