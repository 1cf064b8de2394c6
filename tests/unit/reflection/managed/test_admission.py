"""What a consumer holds, counted exactly whatever the cache shows yet, and asked for one pod at a time."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import msgspec

from kube.objects import Metadata, Object
from kube.quantities import Quantity
from kube.store import MutableStore
from reflection.forge import names
from reflection.managed.admission import Admission
from reflection.managed.refusals import Refusal
from reflection.managed.settings import Limits
from reflection.managed.tenancy import Asked
from reflection.managed.usage import NOTHING, usage

Json = dict[str, Any]
FULL = Refusal("QuotaExceeded", "no more than 4 CPUs")


def spec(cpu: str) -> Json:
    return {"containers": [{"name": "main", "resources": {"requests": {"cpu": cpu}}}]}


def template(cpu: str) -> Json:
    return {"metadata": {}, "spec": spec(cpu)}


def pod(
    name: str, cpu: str, *, uid: str = "", version: int = 1, phase: str = "Running", consumer: str = "blue"
) -> Object:
    return Object(
        metadata=Metadata(
            name=name,
            namespace="ns",
            uid=uid or f"uid-{name}",
            resource_version=str(version),
            labels={names.CONSUMER_LABEL: consumer},
        ),
        spec=msgspec.Raw(json.dumps(spec(cpu)).encode()),
        status=msgspec.Raw(json.dumps({"phase": phase}).encode()),
    )


@dataclass
class FourCpus:
    """Keeps a quota of 4 CPUs, and takes its time over it."""

    asked: list[Asked] = field(default_factory=list)
    busy: int = 0

    def limits(self, consumer_id: str) -> Limits:
        return Limits()

    def subject(self, consumer_id: str) -> None:
        return None

    async def admit(self, asked: Asked) -> Refusal | None:
        self.busy += 1
        assert self.busy == 1, "two questions of one consumer at once"
        await asyncio.sleep(0)
        self.busy -= 1
        self.asked.append(asked)
        total = asked.held.requests.get("cpu", Quantity(0)) + asked.wants.requests["cpu"]
        return None if total <= Quantity.parse("4") else FULL


class World:
    def __init__(self) -> None:
        self.store: MutableStore[Object] = MutableStore()
        self.tenants = FourCpus()
        self.admission = Admission(self.tenants, pods=self.store)

    def show(self, shown: Object) -> None:
        change = self.store.upsert(shown)
        assert change is not None
        self.admission.pod_changed(change)

    def remove(self, shown: Object) -> None:
        change = self.store.remove(shown.metadata)
        assert change is not None
        self.admission.pod_changed(change)

    async def admit(self, name: str, cpu: str, *, consumer: str = "blue", grows: bool = False) -> Refusal | None:
        return await self.admission.admit(("ns", name), template(cpu), consumer_id=consumer, grows=grows)

    def cpus(self, consumer: str = "blue") -> Quantity:
        return self.admission.held(consumer).requests.get("cpu", Quantity(0))


async def test_a26_pods_that_are_asked_for_at_once_do_not_overrun_a_quota() -> None:
    world = World()
    answers = await asyncio.gather(*(world.admit(f"p{n}", "1") for n in range(10)))
    assert answers.count(None) == 4
    assert world.cpus() == Quantity.parse("4")


async def test_an_admitted_pod_counts_once_before_and_after_the_cache_shows_it() -> None:
    world = World()
    await world.admit("a", "3")
    made = pod("a", "3")
    world.admission.made(("ns", "a"), made.metadata)
    assert world.cpus() == Quantity.parse("3")
    world.show(made)
    assert world.cpus() == Quantity.parse("3")
    assert await world.admit("b", "2") == FULL
    world.remove(made)
    assert world.cpus() == Quantity(0)
    assert await world.admit("b", "2") is None


async def test_a_create_without_an_answer_counts_until_it_is_settled() -> None:
    world = World()
    await world.admit("a", "3")
    assert await world.admit("b", "3") == FULL
    assert await world.admit("a", "3") is None  # tried again: its own first try does not stand against it
    world.admission.release(("ns", "a"))
    assert await world.admit("b", "3") is None


async def test_a_pod_that_ended_holds_nothing() -> None:
    world = World()
    world.show(pod("a", "3"))
    world.show(pod("a", "3", version=2, phase="Succeeded"))
    assert world.admission.held("blue") == NOTHING


async def test_a_resize_is_asked_for_by_what_the_pod_holds_afterwards() -> None:
    world = World()
    world.show(pod("a", "2"))
    world.show(pod("b", "1"))
    assert await world.admit("a", "4", grows=True) == FULL
    assert await world.admit("a", "3", grows=True) is None
    assert world.cpus() == Quantity.parse("4")
    grown = pod("a", "3", version=5)
    world.admission.made(("ns", "a"), grown.metadata)
    assert await world.admit("c", "1") == FULL  # though the cache shows the small pod still
    world.show(grown)
    assert world.cpus() == Quantity.parse("4")


async def test_consumers_do_not_count_for_one_another() -> None:
    world = World()
    world.show(pod("a", "4", consumer="red"))
    assert await world.admit("b", "4") is None
    assert world.cpus("red") == Quantity.parse("4")


def test_a_limit_without_a_request_counts_as_one() -> None:
    found = usage(
        {
            "containers": [
                {"name": "a", "resources": {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1"}}}
            ]
        }
    )
    assert found.requests == {"cpu": Quantity.parse("1"), "memory": Quantity.parse("1Gi")}
