"""Peerings that cross: two clusters that lend to each other, and one consumer with two providers."""

import asyncio

import pytest
import yaml

from identity.consumer.remote import connect
from kube.errors import ApiError
from kube.resources import CONFIG_MAPS
from tests.cluster.identity.conftest import LONG, Peering, condition
from tests.cluster.identity.guests import Guest


async def test_two_clusters_lend_to_each_other_and_one_consumer_borrows_of_both(peering: Peering) -> None:
    await asyncio.to_thread(peering.exchange)
    sides = (peering.provider, peering.consumer)
    guests = [Guest(1), Guest(1)]  # the same consumer; to each provider it has another key
    held = []
    for side, guest in zip(sides, guests, strict=True):
        await asyncio.to_thread(side.run, "apply", "-f", "-", stdin=guest.manifest)
        found = await asyncio.to_thread(
            side.wait_for, "tenant", guest.name, lambda it: it["status"]["identity"], timeout=LONG
        )
        held.append(await guest.enter(yaml.safe_load(found["status"]["identity"])["spec"]))
    assert held[0][1].user != held[1][1].user
    for (place, _), (_, proof) in zip(held, reversed(held), strict=True):
        async with connect(place, proof) as client:
            with pytest.raises(ApiError) as refused:
                await client.get(CONFIG_MAPS, name="isthmus-tenant", namespace=guests[0].space)
            assert refused.value.unauthorized
    lends = await asyncio.to_thread(peering.consumer.get, "tenant", guests[1].name)
    assert condition(lends)["reason"] == "Active"
    assert (await asyncio.to_thread(peering.ready))["status"]["user"].startswith("isthmus:shop:")
    assert not await asyncio.to_thread(peering.consumer.exists, "tenant", "shop")
