"""One process per provider does the work, and another goes on when it can't."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy import stack
from deploy.lab.lab import Lab
from deploy.lab.relay import Relay
from kube import config
from kube.client import Client
from kube.election import NotLeader
from kube.resources import LEASES, SERVICES
from reflection.kinds.owner import DURATION, RETRY, Elected, lease_name
from reflection.kinds.service import SERVICE
from tests.cluster.kinds.cases import NAME, service
from tests.cluster.kinds.world import CONSUMER_ID, World


@pytest.fixture
async def cut_off(lab: Lab, lab_gateway: str, tmp_path: Path) -> AsyncIterator[tuple[Client, Relay]]:
    """The provider as a process sees it whose link can be cut."""
    async with Relay.running((lab.provider.plan.site.ip, 6443), host=lab_gateway) as relay:
        user = stack.provider_user(CONSUMER_ID)
        file = lab.provider.client_kubeconfig(user, path=tmp_path / "cut", server=relay.url)
        async with Client.connect(await config.load(kubeconfig=str(file)), name="cut-off") as client:
            yield client, relay


def elected(world: World, client: Client, identity: str) -> Elected:
    return Elected(client, namespace=world.namespace, consumer_id=CONSUMER_ID, identity=identity)


async def holder(world: World) -> str:
    lease = await world.remote(LEASES, lease_name(CONSUMER_ID))
    found: str = (lease or {}).get("spec", {}).get("holderIdentity", "")
    return found


async def test_takeover_from_an_owner_that_hangs(world: World, cut_off: tuple[Client, Relay]) -> None:
    """The other one works, the first knows that it may not write, and it does not take over again."""
    assert DURATION + 2 * RETRY <= 3, "at worst the other's last look came just too early"
    client, relay = cut_off
    first, second = elected(world, client, "first"), elected(world, world.provider, "second")
    hanging = asyncio.create_task(first.run())
    try:
        await asyncio.wait_for(first.won(), 30)
        async with world.reflecting(SERVICE, owner=second):
            await world.create(SERVICES, service())
            await asyncio.sleep(2 * RETRY)  # the other one has had its chance to do what it should not
            assert await world.remote(SERVICES, NAME) is None
            relay.freeze()
            await world.until_remote(SERVICES, NAME)
            with pytest.raises(NotLeader):
                first.check()
            relay.thaw()
            await asyncio.sleep(2 * DURATION)  # no flapping: whoever has it keeps it
            assert await holder(world) == "second"
            await asyncio.wait_for(second.won(), 30)  # on a busy machine it may be unsure for a moment
    finally:
        hanging.cancel()
        await asyncio.wait([hanging])


async def test_an_owner_that_ends_gives_the_work_back(world: World) -> None:
    first, second = elected(world, world.provider, "first"), elected(world, world.provider, "second")
    async with world.reflecting(SERVICE, owner=first):
        await asyncio.wait_for(first.won(), 30)
        await world.create(SERVICES, service())
        await world.until_remote(SERVICES, NAME)
        waiting = asyncio.create_task(second.run())
    assert await holder(world) in ("", "second"), "given back, so that nobody has to wait for its end"
    await asyncio.wait_for(second.won(), 30)
    waiting.cancel()
    await asyncio.wait([waiting])


async def test_work_goes_on_after_the_owner_lost_its_lease_for_a_while(
    world: World, cut_off: tuple[Client, Relay]
) -> None:
    """What came while it was not sure to be the owner is done when it is again."""
    client, relay = cut_off
    only = elected(world, client, "only")
    async with world.reflecting(SERVICE, owner=only):
        await world.create(SERVICES, service("before"))
        await world.until_remote(SERVICES, "before")
        relay.freeze()

        async def lost() -> bool:
            return not only.leading

        await world.until(lost, what="the owner to notice")
        await world.create(SERVICES, service())
        await world.create(SERVICES, service("more"))
        relay.thaw()
        await world.until_remote(SERVICES, NAME)
        await world.until_remote(SERVICES, "more")
