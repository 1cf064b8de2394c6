"""A tenant's quota and standing, from its Tenant alone."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.authentication.resource_slice import ResourceSlice
from api.authentication.tenant import Tenant
from identity.provider.admission import Load, Tenancy, over
from kube.quantities import Quantity
from kube.store import Key

NONE = Load(pods=0, requests={}, limits={})
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
UID = "11111111-2222-3333-4444-555555555555"


def load(pods: int = 1, *, limits: dict[str, str] | None = None, **requests: str) -> Load:
    return Load(
        pods=pods,
        requests={name: Quantity.parse(text) for name, text in requests.items()},
        limits={name: Quantity.parse(text) for name, text in (limits or {}).items()},
    )


class One:
    def __init__(self, **spec: Any) -> None:
        request = {"identity": "n", "nonce": "0" * 32, "issuedAt": "", "certificateRequest": "", "signature": ""}
        body = {
            "metadata": {"name": "shop"},
            "spec": {"clusterID": UID, "publicKey": "", "request": request, **spec},
            "status": {"user": "isthmus:shop:0123456789abcdef"},
        }
        self._found = msgspec.convert(body, Tenant)

    def get(self, key: Key) -> Tenant | None:
        return self._found if key == ("", "shop") else None


class Slices:
    """All that is used of a store: the slices of one namespace."""

    def __init__(self, *slices: ResourceSlice) -> None:
        self._slices = slices

    def by_index(self, _name: str, namespace: str) -> list[ResourceSlice]:
        return [one for one in self._slices if one.metadata.namespace == namespace]


def tenancy(*slices: ResourceSlice, **spec: Any) -> Tenancy:
    return Tenancy(One(**spec), Slices(*slices), now=lambda: NOW)  # type: ignore[arg-type]  # of stores


@pytest.mark.parametrize(
    ("granted", "held", "wants", "says"),
    [
        ({"cpu": "2"}, load(cpu="1500m"), load(cpu="500m"), None),
        ({"cpu": "2"}, load(cpu="1500m"), load(cpu="501m"), "cpu: the pod wants 501m, 1500m of 2 are in use"),
        ({"requests.cpu": "2"}, load(cpu="2"), load(cpu="1m"), "requests.cpu"),
        ({"pods": 3}, load(3), load(), "pods: the pod wants 1, 3 of 3 are in use"),
        ({"cpu": 0}, NONE, load(), None),
        ({"nvidia.com/gpu": 1}, NONE, Load(pods=1, requests={"nvidia.com/gpu": Quantity.of(2)}, limits={}), "nvidia"),
        ({"limits.memory": "1Gi"}, NONE, load(), "each pod must have a limit"),
        ({"limits.memory": "1Gi"}, NONE, load(limits={"memory": "2Gi"}), "limits.memory"),
        ({"ephemeral-storage": "1Gi"}, NONE, load(memory="1Ti"), None),
    ],
)
def test_a26_each_way_of_asking_is_counted(granted: Any, held: Load, wants: Load, says: str | None) -> None:
    denial = over(granted, wants=wants, held=held)
    assert denial is None if says is None else denial is not None and says in denial.message


@given(hard=st.integers(0, 50), asked=st.lists(st.integers(0, 9), max_size=40))
def test_a26_pods_one_after_another_never_exceed_it_and_fill_it_as_far_as_they_fit(hard: int, asked: list[int]) -> None:
    held, pods = 0, 0
    for amount in asked:
        wants = load(cpu=f"{amount}m")
        denial = over({"cpu": f"{hard}m"}, wants=wants, held=load(pods, cpu=f"{held}m"))
        assert (denial is None) == (amount == 0 or held + amount <= hard)
        if denial is None:
            held, pods = held + amount, pods + 1
    assert held <= hard


def test_shrinking_stops_new_pods_only_when_they_want_of_it() -> None:
    assert tenancy(resources={"cpu": 1}).deny("shop", wants=load(memory="1Gi"), held=load(cpu="5")) is None
    assert tenancy(resources={"cpu": 1}).deny("shop", wants=load(cpu="1m"), held=load(cpu="5")) is not None


@pytest.mark.parametrize(
    ("spec", "consumer_id", "reason"),
    [
        ({}, "shop", None),
        ({}, "other", "NotLetIn"),
        ({"state": "Drained"}, "shop", "NotLetIn"),
        ({"state": "Cordoned"}, "shop", "Cordoned"),
    ],
)
def test_who_is_let_in(spec: Any, consumer_id: str, reason: str | None) -> None:
    found = tenancy(**spec)
    denial = found.deny(consumer_id, wants=load(), held=NONE)
    assert (denial.reason if denial else None) == reason
    assert (found.subject(consumer_id) is None) == (reason == "NotLetIn")


def granting(*, expires: str = "", status: str = "True", **amounts: Any) -> ResourceSlice:
    body = {
        "metadata": {"name": "a", "namespace": "isthmus-shop"},
        "spec": {"identity": "north", "resources": {"cpu": 9, "memory": 9, "pods": 9}},
        "status": {"conditions": [{"type": "Granted", "status": status}], "granted": amounts, "expires": expires},
    }
    return msgspec.convert(body, ResourceSlice)


@pytest.mark.parametrize(
    ("slices", "wants", "says"),
    [
        ([granting(cpu=1, memory=10, pods=2), granting(cpu="500m", pods=1)], load(cpu="1500m", memory="10"), None),
        ([granting(cpu=1, memory=10, pods=2)], load(cpu="1001m"), "cpu: the pod wants 1001m, 0 of the 1"),
        ([granting(cpu=1, memory=10, pods=2)], load(3), "pods: the pod wants 3"),
        ([granting(cpu=1, memory=10, pods=2)], load(cpu="1", gpu="1"), "gpu: the pod wants 1, 0 of the 0"),
        ([granting(cpu=1, pods=2, expires="2026-11-25T11:59:59Z")], load(cpu="1"), "0 of the 0"),
        ([granting(cpu=1, pods=2, expires="2026-11-25T12:00:01Z")], load(cpu="1"), None),
        ([granting(cpu=1, pods=2, status="Unknown")], load(cpu="1"), "0 of the 0"),
        ([], load(), "pods: the pod wants 1, 0 of the 0"),
    ],
)
def test_a26_a_tenant_with_classes_has_what_its_slices_grant_and_nothing_else(
    slices: list[ResourceSlice], wants: Load, says: str | None
) -> None:
    denial = tenancy(*slices, classes=["default"]).deny("shop", wants=wants, held=NONE)
    assert denial is None if says is None else denial is not None and says in denial.message


def test_a26_slices_do_not_lift_the_tenants_own_ceiling() -> None:
    found = tenancy(granting(cpu=9, pods=9), classes=["default"], resources={"cpu": 1})
    assert found.deny("shop", wants=load(cpu="1"), held=NONE) is None
    assert found.deny("shop", wants=load(cpu="2"), held=NONE) is not None
