import asyncio
import copy
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from kube import metrics
from kube.client import Client
from kube.election import LeaderElector, NotLeader, boot_clock
from kube.errors import ApiError, TransportError
from kube.resources import Resource
from tests.unit.kube.fakeapi import FakeApi, failure, until


class Clock:
    """A clock of a test's own; time only passes when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Leases:
    """One Lease with the API server's optimistic locking. ``swallow`` loses the answers of so many writes."""

    def __init__(self, api: FakeApi) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.writes = 0
        self.reads = 0
        self.down = False
        self.swallow = 0
        self.late = False
        """Whether a renewal that its sender has given up is carried out right before the lease is given back."""
        api.script = self._answer

    @property
    def holder(self) -> str:
        return str(self.lease["spec"]["holderIdentity"]) if self.lease else ""

    async def _answer(self, request: web.Request) -> web.Response:
        if self.down:
            return failure(500)
        if request.method == "GET":
            self.reads += 1
            return web.json_response(self.lease) if self.lease else failure(404, "NotFound")
        body = await request.json()
        if request.method == "POST" and self.lease:
            return failure(409, "AlreadyExists")
        if self.late and not body["spec"]["holderIdentity"]:
            self.late = False
            self.take_over("one")
        if request.method == "PUT" and body["metadata"]["resourceVersion"] != str(self.version):
            return failure(409, "Conflict")
        self.version += 1
        self.writes += 1
        self.lease = body | {"kind": "Lease", "metadata": body["metadata"] | {"resourceVersion": str(self.version)}}
        if self.swallow:
            self.swallow -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(self.lease)

    def take_over(self, identity: str) -> None:
        assert self.lease is not None
        self.version += 1
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        self.lease["spec"]["holderIdentity"] = identity


@pytest.fixture
def leases(api: FakeApi) -> Leases:
    return Leases(api)


def _elector(client: Client, identity: str, clock: Clock | None = None) -> LeaderElector:
    return LeaderElector(
        client, namespace="ns", name="l", identity=identity, duration=15, retry=0.02, clock=clock or boot_clock
    )


@asynccontextmanager
async def running(elector: LeaderElector) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(elector.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _leads(elector: LeaderElector) -> bool:
    try:
        elector.check()
    except NotLeader:
        return False
    return True


async def test_one_leads_and_gives_the_lease_back_at_the_end(client: Client, leases: Leases) -> None:
    one, two = _elector(client, "one"), _elector(client, "two")
    async with running(one) as task:
        await asyncio.wait_for(one.leading.wait(), 20)
        one.check()
        async with running(two):
            await asyncio.sleep(0.2)
            assert not _leads(two)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert not _leads(one)
            assert not one.leading.is_set()
            # Given back, so nobody has to wait for the 15 s.
            await asyncio.wait_for(two.leading.wait(), 20)
    assert leases.holder == ""


async def test_a_holder_renews_without_reading_and_reads_when_somebody_else_wrote(
    client: Client, leases: Leases
) -> None:
    one = _elector(client, "one")
    async with running(one):
        await asyncio.wait_for(one.leading.wait(), 20)
        await until(lambda: leases.writes >= 3)
        before, written = leases.reads, leases.writes
        await until(lambda: leases.writes >= written + 5)
        assert leases.reads == before
        leases.take_over("two")
        await asyncio.wait_for(one.lost(), 20)
        assert leases.reads > before
    assert leases.holder == "two"


async def test_a_lease_is_given_back_after_a_renewal_that_came_late(client: Client, leases: Leases) -> None:
    one = _elector(client, "one")
    async with running(one):
        await asyncio.wait_for(one.leading.wait(), 20)
        leases.late = True
    assert not leases.late
    assert leases.holder == ""


async def test_f21_a_silent_holder_is_followed_after_its_duration_not_before(client: Client, leases: Leases) -> None:
    first, clock = Clock(), Clock()
    one, two = _elector(client, "one", first), _elector(client, "two", clock)
    async with running(one):
        await asyncio.wait_for(one.leading.wait(), 20)
    leases.lease["spec"] |= {"holderIdentity": "one", "leaseDurationSeconds": 15}  # type: ignore[index]  # it is there
    async with running(two):
        await asyncio.sleep(0.1)
        clock.now += 14.9
        await asyncio.sleep(0.1)
        assert not _leads(two)
        clock.now += 0.2
        await asyncio.wait_for(two.leading.wait(), 20)
    assert leases.lease is not None
    assert leases.lease["spec"]["leaseTransitions"] == 1


class Locks:
    """Stands for a Client, with one Lease and no time of its own; whoever is in `cut` gets no answers."""

    def __init__(self, name: str, world: "World") -> None:
        self.name, self.world, self.metrics = name, world, metrics.of(CollectorRegistry())

    async def get(self, _resource: Resource, **_where: str) -> dict[str, Any]:
        self._reach()
        if self.world.lease is None:
            raise ApiError(status=404, reason="NotFound", message="")
        return copy.deepcopy(self.world.lease)

    async def create(self, _resource: Resource, body: dict[str, Any], **_where: str) -> None:
        self._reach()
        if self.world.lease is not None:
            raise ApiError(status=409, reason="AlreadyExists", message="")
        self._keep(body)

    async def replace(self, _resource: Resource, body: dict[str, Any], **_where: str) -> None:
        self._reach()
        known = (self.world.lease or {}).get("metadata", {}).get("resourceVersion")
        if body["metadata"].get("resourceVersion") != known:
            raise ApiError(status=409, reason="Conflict", message="")
        self._keep(body)

    def _reach(self) -> None:
        if self.name in self.world.cut:
            raise TransportError("cut off", sent=False)

    def _keep(self, body: dict[str, Any]) -> None:
        self.world.version += 1
        metadata = {**body["metadata"], "resourceVersion": str(self.world.version)}
        self.world.lease = {**copy.deepcopy(body), "metadata": metadata}


@dataclass
class World:
    """What the electors of the test below share."""

    lease: dict[str, Any] | None = None
    version: int = 0
    cut: set[str] = field(default_factory=set)


async def test_f21_i10_a_thousand_losses_and_never_two_leaders() -> None:
    """Leases deleted, holders frozen or cut off, in an order that only the seed knows; time is the test's own."""
    chance, clock, world = random.Random(21), Clock(), World()
    duration, retry = 2.0, 0.5
    electors = {
        name: LeaderElector(
            cast(Client, Locks(name, world)),
            namespace="ns",
            name="l",
            identity=name,
            duration=duration,
            retry=retry,
            clock=clock,
        )
        for name in ("one", "two")
    }
    leaders: list[str] = []
    for flip in range(1000):
        faults = chance.sample(["delete", "freeze", "cut"], chance.randint(1, 2))
        holder = [name for name, elector in electors.items() if _leads(elector)]
        frozen = holder if "freeze" in faults else []
        world.cut = set(holder) if "cut" in faults else set()
        if "delete" in faults:
            world.lease = None
        began = clock.now
        while clock.now < began + duration + 2 * retry:
            for name in chance.sample([*electors], 2):
                if name not in frozen:
                    await electors[name]._round()
                leading = [name for name, elector in electors.items() if _leads(elector)]
                assert len(leading) <= 1, f"both lead at {clock.now}, {clock.now - began:.1f} s after {faults}"
            clock.now += retry * chance.uniform(0.5, 1.0)
        assert leading, f"nobody leads {clock.now - began:.1f} s after {faults}, flip {flip}"
        leaders += leading
        world.cut.clear()
    assert 100 < leaders.count("one") < 900


async def test_f20_a_stopped_leader_is_none_when_it_wakes(client: Client, leases: Leases) -> None:
    clock = Clock()
    one = _elector(client, "one", clock)
    async with running(one):
        await asyncio.wait_for(one.leading.wait(), 20)
        leases.down = True
        # As after SIGSTOP and SIGCONT: time has passed, no code has run, the event is still set.
        clock.now += 60
        assert one.leading.is_set()
        with pytest.raises(NotLeader):
            one.check()
        await until(lambda: not one.leading.is_set())


async def test_i10_a_leader_stops_before_another_can_start(client: Client, leases: Leases) -> None:
    clock = Clock()
    one, two = _elector(client, "one", clock), _elector(client, "two", clock)
    async with running(one):
        await asyncio.wait_for(one.leading.wait(), 20)
        async with running(two):
            await asyncio.sleep(0.1)
            leases.down = True
            began = clock.now
            for _ in range(40):
                clock.now += 0.5
                leases.down = clock.now < began + 16
                await asyncio.sleep(0.03)
                assert not (_leads(one) and _leads(two))
                # Nobody else can start before 15 s of silence; we have stopped well before that.
                assert not (leases.down and clock.now > began + 10 and _leads(one))
            await until(lambda: _leads(one) or _leads(two))


async def test_i10_who_is_overtaken_stops_at_once(client: Client, leases: Leases) -> None:
    one = _elector(client, "one")
    async with running(one):
        await asyncio.wait_for(one.leading.wait(), 20)
        leases.take_over("two")
        await until(lambda: not _leads(one) and not one.leading.is_set())
        assert leases.holder == "two"


async def test_f4_a_write_whose_answer_is_lost_is_looked_up(client: Client, leases: Leases) -> None:
    leases.swallow = 1
    one = _elector(client, "one")
    async with running(one):
        await asyncio.wait_for(one.leading.wait(), 20)
        assert leases.holder == "one"
        assert leases.lease is not None
        assert leases.lease["spec"]["leaseTransitions"] == 0


async def test_f22_clocks_need_not_agree(client: Client, leases: Leases) -> None:
    one, two = _elector(client, "one"), _elector(client, "two")
    async with running(one):
        await asyncio.wait_for(one.leading.wait(), 20)
        assert leases.lease is not None
        # The holder's clock is an hour behind: its renewTime is long past for everybody else.
        leases.lease["spec"]["renewTime"] = "2000-01-01T00:00:00.000000Z"
        async with running(two):
            await asyncio.sleep(0.2)
            assert not _leads(two)
            assert _leads(one)


def test_the_clock_runs_on_while_stopped() -> None:
    assert abs(boot_clock() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 1


def test_settings_that_cannot_be_safe(client: Client) -> None:
    with pytest.raises(ValueError, match="two thirds"):
        LeaderElector(client, namespace="n", name="l", identity="i", duration=3, retry=2)
