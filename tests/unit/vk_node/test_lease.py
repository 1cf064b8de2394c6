"""The node's Lease: renewed whatever happens, never back in time."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from kube.client import Client
from tests.unit.vk_node.clocks import HandClock
from tests.unit.vk_node.fakeapi import FakeApi, refusal, serving
from tests.unit.vk_node.tasks import running, until
from vk.node import lease
from vk.node.lease import LeaseKeeper, RenewTime
from vk.node.signals import Notifier

PATH = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/vk-1"


class Owner:
    def __init__(self) -> None:
        self.established = asyncio.Event()
        self.changed = Notifier()
        self.uid = ""

    def establish(self, uid: str) -> None:
        self.uid = uid
        self.established.set()
        self.changed.notify()


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[tuple[FakeApi, Client]]:
    async with serving(tmp_path) as pair:
        yield pair


@pytest.fixture
def owner() -> Owner:
    return Owner()


def _keeper(client: Client, owner: Owner) -> LeaseKeeper:
    return LeaseKeeper(client, node_name="vk-1", owner=owner, registry=CollectorRegistry())


@given(st.lists(st.tuples(st.floats(0.0, 100.0), st.floats(-7200.0, 7200.0)), max_size=30))
def test_f22_renew_time_only_grows_and_at_least_as_fast_as_time(steps: list[tuple[float, float]]) -> None:
    hand = HandClock()
    renew = RenewTime(hand.clock)
    last = renew.next()
    for passed, jump in steps:
        hand.pass_time(passed)
        hand.jump(jump)
        now = renew.next()
        assert now > last
        assert now - last >= timedelta(seconds=passed) - timedelta(milliseconds=1)
        last = now


def test_f22_a_predecessor_with_a_clock_ahead_is_overtaken() -> None:
    hand = HandClock()
    renew = RenewTime(hand.clock)
    ahead = hand.wall + timedelta(hours=1)
    renew.observe(ahead)
    hand.pass_time(10.0)
    assert renew.next() >= ahead + timedelta(seconds=10)


def test_renew_time_is_the_wall_clocks_where_nothing_jumps() -> None:
    hand = HandClock()
    renew = RenewTime(hand.clock)
    renew.next()
    hand.pass_time(10.0)
    assert abs(renew.next() - hand.wall) < timedelta(milliseconds=1)


async def test_created_with_its_owner_and_then_renewed(
    fake: tuple[FakeApi, Client], owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, client = fake
    monkeypatch.setattr(lease, "INTERVAL_SECONDS", 0.05)
    async with running(_keeper(client, owner).run):
        await asyncio.sleep(0.1)
        assert not api.requests, "not before the Node is known to be ours"
        owner.establish("uid-of-node")
        await until(lambda: api.count("PATCH", PATH) >= 3)
    body = api.objects[PATH]
    assert body["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Node", "name": "vk-1", "uid": "uid-of-node"}
    ]
    assert body["spec"]["holderIdentity"] == "vk-1"
    assert body["spec"]["leaseDurationSeconds"] == 40
    assert datetime.fromisoformat(body["spec"]["renewTime"]).tzinfo is not None
    assert api.count("GET", PATH) == 1
    assert api.count("POST", "/leases") == 1


async def test_a_lease_of_an_earlier_run_is_taken_up(fake: tuple[FakeApi, Client], owner: Owner) -> None:
    api, client = fake
    api.put(PATH, {"metadata": {"name": "vk-1"}, "spec": {"renewTime": "2999-01-01T00:00:00.000000Z"}})
    keeper = _keeper(client, owner)
    owner.establish("u")
    async with running(keeper.run):
        await keeper.renewed.wait()
    assert api.objects[PATH]["spec"]["renewTime"] > "2999-01-01T00:00:00.000000Z"


async def test_a_new_node_gets_the_lease_at_once(fake: tuple[FakeApi, Client], owner: Owner) -> None:
    """The garbage collector removes the old Node's Lease: it is made again, and owned by the new one."""
    api, client = fake
    owner.establish("u-1")
    keeper = _keeper(client, owner)
    async with running(keeper.run):
        await until(lambda: PATH in api.objects)
        await keeper.renewed.wait()
        api.remove(PATH)
        owner.establish("u-2")
        await until(lambda: PATH in api.objects)
        assert api.objects[PATH]["metadata"]["ownerReferences"][0]["uid"] == "u-2"


async def test_f1_renewal_is_tried_again_quickly(
    fake: tuple[FakeApi, Client], owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, client = fake
    monkeypatch.setattr(lease, "REQUEST_SECONDS", 0.2)

    def hang_up(request: web.Request) -> None:
        assert request.transport is not None
        request.transport.close()

    owner.establish("u")
    keeper = _keeper(client, owner)
    api.fault = hang_up
    async with running(keeper.run):
        await until(lambda: api.count("GET", PATH) >= 3)
        assert not keeper.renewed.is_set()
        api.fault = None
        async with asyncio.timeout(20):
            await keeper.renewed.wait()


async def test_f16_no_hot_loop_when_forbidden(
    fake: tuple[FakeApi, Client], owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, client = fake
    monkeypatch.setattr(lease, "REFUSED_SECONDS", 2.0)
    api.fault = lambda _request: refusal(403, "Forbidden")
    owner.establish("u")
    keeper = _keeper(client, owner)
    async with running(keeper.run):
        await until(lambda: api.count("GET", PATH) >= 1)
        for _ in range(20):
            owner.changed.notify()
        await asyncio.sleep(0.2)
        assert len(api.requests) == 1
        api.fault = None
        await keeper.renewed.wait()


async def test_f15_retry_after_is_honoured(fake: tuple[FakeApi, Client], owner: Owner) -> None:
    api, client = fake
    api.put(PATH, {"metadata": {"name": "vk-1"}, "spec": {}})
    times: list[float] = []

    def busy(request: web.Request) -> web.Response | None:
        if request.method != "PATCH":
            return None
        times.append(asyncio.get_running_loop().time())
        status, reason = ((503, "ServiceUnavailable"), (429, "TooManyRequests"))[len(times) % 2]
        return refusal(status, reason, headers={"Retry-After": "1"}) if len(times) < 3 else None

    api.fault = busy
    owner.establish("u")
    keeper = _keeper(client, owner)
    async with running(keeper.run), asyncio.timeout(20):
        await keeper.renewed.wait()
    assert all(later - earlier >= 0.95 for earlier, later in itertools.pairwise(times))
