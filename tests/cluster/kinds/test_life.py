"""Each kind through its life: made, changed, removed; in the way of a stranger; through restarts and outages."""

from __future__ import annotations

import pytest

from kube.errors import ApiError
from reflection.kinds.service import SERVICE
from tests.cluster.kinds.cases import CASES, NAME, Case, Json
from tests.cluster.kinds.world import CONSUMER_ID, World

pytestmark = pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind.name)


async def test_create_update_delete(world: World, case: Case) -> None:
    resource = case.kind.resource
    async with world.reflecting(*case.kinds):
        await case.make(world)
        made = await world.until_remote(resource, NAME, case.shown)
        assert made["metadata"]["labels"]["offloading.isthmus.dev/consumer"] == CONSUMER_ID
        await world.patch(resource, NAME, case.change)
        changed = await world.until_remote(resource, NAME, case.changed)
        assert changed["metadata"]["uid"] == made["metadata"]["uid"]
        await world.delete(resource, NAME)
        await world.until_gone(resource, NAME)


async def test_foreign_object_is_left_alone(world: World, case: Case) -> None:
    resource = case.kind.resource
    theirs = await world.create_remote(resource, case.body)
    async with world.reflecting(*case.kinds) as reflection:
        await case.make(world)
        told = await world.until_told(NAME, "ForeignObject")
        assert "did not make" in told.message
        assert [problem.reason for problem in reflection.problems(world.namespace)] == ["ForeignObject"]
        await world.delete(resource, NAME)
        await world.create(resource, {**case.body, "metadata": {**case.body["metadata"], "name": "other"}})
        await world.until_remote(resource, "other")  # all before it has been dealt with by now
        left = await world.remote(resource, NAME)
        assert left is not None
        assert _content(left) == _content(theirs)
        # When the stranger is gone the copy comes.
        await world.create(resource, case.body)
        await world.remote_admin.delete(resource, name=NAME, namespace=world.remote_namespace)
        await world.until_remote(resource, NAME, case.shown)

        async def settled() -> bool:  # the problem goes with the answer to the write, which others see before us
            return not reflection.problems(world.namespace)

        await world.until(settled, what="no problem left")


def _content(found: Json) -> Json:
    """All but what the provider's own controllers write."""
    metadata = {k: v for k, v in found["metadata"].items() if k not in ("resourceVersion", "managedFields")}
    return {**{k: v for k, v in found.items() if k != "status"}, "metadata": metadata}


async def test_restart_in_the_middle(world: World, case: Case) -> None:
    """What changed while nobody looked is made good, the rest is not written again."""
    resource = case.kind.resource
    same = {**case.body, "metadata": {**case.body["metadata"], "name": "same"}}
    gone = {**case.body, "metadata": {**case.body["metadata"], "name": "gone"}}
    async with world.reflecting(*case.kinds):
        await case.make(world)
        await world.create(resource, same)
        await world.create(resource, gone)
        for name in (NAME, "same", "gone"):
            await world.until_remote(resource, name, lambda _: True)
    await world.patch(resource, NAME, case.change)
    await world.delete(resource, "gone")
    before = world.writes(resource)
    async with world.reflecting(*case.kinds):
        await world.until_remote(resource, NAME, case.changed)
        await world.until_gone(resource, "gone")

        async def answered() -> bool:
            # A write shows before its answer comes: an API server gives a Service's addresses back in between.
            return sum(world.writes(resource).values()) >= sum(before.values()) + 2

        await world.until(answered, what="the answers to its writes")
    assert {verb: count - before[verb] for verb, count in world.writes(resource).items()} == {
        "create": 0,
        "update": 1,
        "patch": 0,
        "delete": 1,
    }


async def test_provider_away_in_the_middle(world: World, case: Case) -> None:
    """The link goes dead without a word, and later with one: what happened meanwhile arrives, nothing else."""
    resource = case.kind.resource
    gone = {**case.body, "metadata": {**case.body["metadata"], "name": "gone"}}
    async with world.reflecting(*case.kinds):
        await case.make(world)
        await world.create(resource, gone)
        await world.until_remote(resource, "gone")
        await world.until_remote(resource, NAME, case.shown)
        world.relay.freeze()
        await world.patch(resource, NAME, case.change)
        await world.delete(resource, "gone")
        late = {**case.body, "metadata": {**case.body["metadata"], "name": "late"}}
        await world.create(resource, late)
        await world.relay.drop()
        world.relay.thaw()
        await world.until_remote(resource, NAME, case.changed)
        await world.until_remote(resource, "late")
        await world.until_gone(resource, "gone")


async def test_change_at_the_provider_is_undone(world: World, case: Case) -> None:
    resource = case.kind.resource
    async with world.reflecting(*case.kinds):
        await case.make(world)
        await world.until_remote(resource, NAME, case.shown)
        await world.patch_remote(resource, NAME, case.change)
        await world.until_remote(resource, NAME, case.shown)
        await world.remote_admin.delete(resource, name=NAME, namespace=world.remote_namespace)
        await world.until_remote(resource, NAME, case.shown)


async def test_leaving_namespace_is_cleared_of_ours(world: World, case: Case) -> None:
    """Un-offloading removes all copies and nothing else."""
    resource = case.kind.resource
    foreign = {**case.body, "metadata": {"name": "foreign"}}
    await world.create_remote(resource, foreign)
    async with world.reflecting(*case.kinds) as reflection:
        await case.make(world)
        await world.until_remote(resource, NAME, case.shown)
        assert reflection.is_empty(world.remote_namespace) is False
        reflection.set_namespaces([world.entry(leaving=True)])
        await world.until_gone(resource, NAME)

        async def empty() -> bool:
            return reflection.is_empty(world.remote_namespace) is True

        await world.until(empty, what="the provider's namespace to be empty of ours")
        reflection.set_namespaces([])
        assert await world.remote(resource, "foreign") is not None
        assert await world.local(resource, NAME) is not None


async def test_rights_are_no_more_than_needed(world: World, case: Case) -> None:
    """The identities see nothing outside of their namespaces. (Any node may read Services, for kube-proxy.)"""
    everywhere = (world.provider,) if case.kind is SERVICE else (world.consumer, world.provider)
    for client in everywhere:
        with pytest.raises(ApiError) as refused:
            await client.list(case.kind.resource, namespace="kube-system")
        assert refused.value.forbidden
