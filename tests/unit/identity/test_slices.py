"""How slices are answered: leases by the clock, what is kept and what is taken back, and nothing promised twice."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from api.authentication.resource_slice import ResourceSlice
from api.authentication.tenant import Tenant
from identity.provider import grants
from identity.provider.grants import Stock
from identity.provider.settings import ProviderSettings
from identity.provider.slices import Slices
from identity.requests import timestamp
from kube.quantities import Quantity

Json = dict[str, Any]
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
ASKED = {"cpu": "6", "memory": "6", "pods": "6"}
HELD = {"cpu": "4", "memory": "6", "pods": "6"}


def one(name: str = "a", *, status: Any = None, generation: Any = 1, **spec: Any) -> ResourceSlice:
    meta = {"name": name, "namespace": "isthmus-shop", "uid": name, "resourceVersion": "1", "generation": generation}
    body = {"metadata": meta, "spec": {"identity": "n", "resources": ASKED, **spec}, "status": status or {}}
    return msgspec.convert(body, ResourceSlice)


def granted(amounts: Json, *, expires: datetime | None = None, renewed: str = "", reason: str = "Granted") -> Json:
    condition = {"type": "Granted", "status": "True", "reason": reason}
    ends = timestamp(expires) if expires is not None else ""
    return {"observedGeneration": 1, "conditions": [condition], "granted": amounts, "expires": ends, "renewed": renewed}


class World:
    """A provider: its Tenant, its slices as a cache has them, its nodes; what is written is kept apart."""

    def __init__(self, *slices: ResourceSlice, cpus: int = 8, state: str = "Active", **limits: Any) -> None:
        self.slices = {found.metadata.key: found for found in slices}
        self.cpus: int | None = cpus
        self.now = NOW
        self.woken: list[tuple[str, str]] = []
        body = {
            "metadata": {"name": "shop"},
            "spec": {"classes": ["default", "manual"], "state": state, **limits},
            "status": {"user": "u", "namespace": "isthmus-shop"},
        }
        self.tenant = msgspec.convert(body, Tenant)
        self.written: list[Json] = []
        this: Any = self
        self.controller = Slices(
            this,
            ProviderSettings(server="", ca="", cluster_id="", slice_limit=3),
            slices=this,
            tenants=this,
            inventory=this,
            wake=self.woken.append,
            recorder=this,
            now=lambda: self.now,
            check_leading=lambda: None,
        )

    # a store
    def get(self, key: tuple[str, str]) -> Any:
        return self.tenant if key == ("", "shop") else self.slices.get(key)

    def keys(self) -> list[tuple[str, str]]:
        return list(self.slices)

    # an inventory
    def stock(self, _selector: Mapping[str, str]) -> Stock | None:
        if self.cpus is None:
            return None
        room = Quantity.of(100)
        offered = {"cpu": Quantity.of(self.cpus), "memory": room, "pods": room}
        return Stock(nodes=frozenset({"n"}), offered=offered)

    def nodes(self, _selector: Mapping[str, str]) -> frozenset[str]:
        return frozenset({"n"})

    # a client, whose writes the cache does not show yet, and a recorder
    async def apply(self, _resource: Any, body: Json, *, name: str, **_: Any) -> ResourceSlice:
        self.written.append(body["status"])
        before = self.slices["isthmus-shop", name]
        status = msgspec.convert(body["status"], type(before.status))
        meta = msgspec.structs.replace(before.metadata, resource_version=str(1 + len(self.written)))
        return msgspec.structs.replace(before, metadata=meta, status=status)

    def event(self, *_: Any, **__: Any) -> None:
        """Nobody listens."""

    def answer(self, name: str = "a") -> tuple[str, str]:
        """Reason and granted cpus."""
        said = self.controller.answer(self.slices["isthmus-shop", name], self.tenant)
        return said.reason, str(said.amounts.get("cpu", "0"))


async def test_what_was_just_granted_counts_though_no_cache_shows_it() -> None:
    world = World(one("a"), one("b"))
    for name in ("a", "b"):
        await world.controller.reconcile(("isthmus-shop", name))
    assert [status["granted"]["cpu"] for status in world.written] == ["6", "2"]


@pytest.mark.parametrize(
    ("later", "renew", "says"),
    [(9, None, ("Granted", "6")), (11, None, ("Expired", "0")), (11, "2026-11-25T12:00:11Z", ("Granted", "6"))],
)
def test_f22_a_lease_ends_by_the_providers_clock_and_goes_on_when_it_is_asked_for(
    later: int, renew: str | None, says: tuple[str, str]
) -> None:
    expires = NOW + timedelta(seconds=10)
    asked = one(duration="10s", status=granted(ASKED, expires=expires), **({"renewTime": renew} if renew else {}))
    world = World(asked)
    world.now = NOW + timedelta(seconds=later)
    assert world.answer() == says


async def test_a_lease_is_prolonged_from_when_it_is_renewed() -> None:
    status = granted(ASKED, expires=NOW + timedelta(seconds=4), renewed="2026-11-25T11:59:54Z")
    world = World(one(duration="10s", status=status, generation=2, renewTime="2026-11-25T12:00:00Z"))
    await world.controller.reconcile(("isthmus-shop", "a"))
    assert world.written[-1]["expires"] == timestamp(NOW + timedelta(seconds=10))
    assert world.written[-1]["renewed"] == "2026-11-25T12:00:00Z"


def test_what_is_granted_is_not_taken_back_before_it_is_asked_for_anew() -> None:
    status = granted(HELD, reason="Reduced")
    assert World(one(status=status), cpus=2).answer() == ("Reduced", "4")
    assert World(one(status=status), cpus=5).answer() == ("Reduced", "5")
    assert World(one(status=status, generation=2), cpus=2).answer() == ("Reduced", "2")


def test_a_lower_ceiling_counts_at_once() -> None:
    assert World(one(status=granted(ASKED)), resources={"cpu": 3}).answer() == ("Reduced", "3")


def test_a_cordoned_tenant_keeps_what_it_has_and_gets_nothing_new() -> None:
    assert World(one(status=granted(HELD)), state="Cordoned").answer() == ("Reduced", "4")
    assert World(one(), state="Cordoned").answer() == ("Cordoned", "0")


async def test_nothing_is_granted_blindly_nor_taken_while_nodes_are_not_known() -> None:
    world = World(one("new"), one("old", status=granted(HELD, reason="Reduced")))
    world.cpus = None
    for name in ("new", "old"):
        await world.controller.reconcile(("isthmus-shop", name))
    assert [status["conditions"][0]["reason"] for status in world.written] == ["InventoryUnknown"]
    assert "granted" not in world.written[0]


def test_a_tenant_has_so_many_slices_and_no_more() -> None:
    world = World(*(one(name) for name in "abcd"), cpus=100)
    assert [world.answer(name)[0] for name in "abcd"] == ["Granted", "Granted", "Granted", "TooMany"]


async def test_who_waits_is_looked_at_again_when_something_becomes_free() -> None:
    waiting = granted({}, reason="Insufficient")
    waiting["conditions"][0]["status"] = "False"
    world = World(one("b", status=waiting))
    await world.controller.reconcile(("isthmus-shop", "gone"))
    assert world.woken == [("isthmus-shop", "b")]


def test_the_decision_of_the_class_manual_is_a_ceiling() -> None:
    decision = {"verdict": "Granted", "resources": {**HELD, "gpu": "9"}}
    world = World(one(status={"decision": decision}, **{"class": "manual"}))
    said = world.controller.answer(world.slices["isthmus-shop", "a"], world.tenant)
    assert grants.texts(said.amounts) == HELD
