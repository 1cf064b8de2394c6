"""What can be granted to slices: by nodes, by promises, by the Tenant's ceiling."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.authentication.resource_slice import ResourceSlice
from api.authentication.tenant import Tenant
from identity.provider import grants
from identity.provider.grants import Amounts, Promise, Stock
from isthmus.stock import count
from kube.quantities import ZERO, Quantity
from vk.node.objects import Node
from vk.node.uses import Use

ONCE = Quantity.of(1)


def some(**texts: Any) -> Amounts:
    return grants.amounts(texts)


def left(
    *promises: Promise, own: Amounts | None = None, overcommit: Quantity = ONCE, consumer: str = "shop", **stock: Any
) -> dict[str, Any]:
    found = grants.left(
        Stock(nodes=frozenset({"n1"}), **stock), promises, consumer_id=consumer, own=own or {}, overcommit=overcommit
    )
    return grants.texts(found)


def promise(consumer_id: str, *, nodes: str = "n1", **amounts: Any) -> Promise:
    return Promise(consumer_id=consumer_id, amounts=some(**amounts), nodes=frozenset({nodes}))


def test_what_was_promised_is_not_promised_again() -> None:
    offered = some(cpu=8, pods=10)
    assert left(promise("a", cpu=3), promise("b", cpu=2, pods=4), offered=offered) == {"cpu": "3", "pods": "6"}
    assert left(promise("a", cpu=3, nodes="other"), offered=offered)["cpu"] == "8"


def test_pods_within_a_grant_do_not_count_twice_and_pods_beyond_it_do() -> None:
    assert left(promise("a", cpu=3), offered=some(cpu=8), used={"a": some(cpu=2)}) == {"cpu": "5"}
    assert left(promise("a", cpu=3), offered=some(cpu=8), used={"a": some(cpu=5)}) == {"cpu": "3"}
    assert left(offered=some(cpu=8), used={"without-slices": some(cpu=5)}) == {"cpu": "3"}


def test_a_slices_own_pods_are_not_in_its_own_way() -> None:
    assert left(own=some(cpu=4), offered=some(cpu=8), used={"shop": some(cpu=4)}) == {"cpu": "8"}
    assert left(promise("shop", cpu=2), own=some(cpu=4), offered=some(cpu=8), used={"shop": some(cpu=7)})["cpu"] == "5"


def test_only_what_can_be_shared_is_promised_more_than_once() -> None:
    twice = Quantity.of(2)
    offered = {**some(cpu=8, memory="1Gi", pods=10), "nvidia.com/gpu": Quantity.of(1)}
    found = left(offered=offered, overcommit=twice)
    assert found == {"cpu": "16", "memory": "2Gi", "pods": "10", "nvidia.com/gpu": "1"}


AMOUNT = st.integers(0, 50).map(Quantity.of)
CONSUMER = st.sampled_from(["a", "b", "c"])


@given(st.integers(0, 100), st.lists(st.tuples(CONSUMER, st.integers(1, 40)), max_size=12))
def test_a26_grants_one_after_another_never_exceed_what_nodes_have(offered: int, asked: list[tuple[str, int]]) -> None:
    promises: list[Promise] = []
    for consumer, wanted in asked:
        found = grants.left(
            Stock(nodes=frozenset({"n1"}), offered=some(cpu=offered)),
            promises,
            consumer_id=consumer,
            own={},
            overcommit=ONCE,
        )
        given = grants.within(some(cpu=wanted), found)
        assert given["cpu"] <= Quantity.of(wanted)
        promises.append(Promise(consumer_id=consumer, amounts=given, nodes=frozenset({"n1"})))
    assert grants.total(one.amounts for one in promises).get("cpu", ZERO) <= Quantity.of(offered)


def tenant(**spec: Any) -> Tenant:
    request = {"identity": "n", "nonce": "0" * 32, "issuedAt": "", "certificateRequest": "", "signature": ""}
    body = {"metadata": {"name": "shop"}, "spec": {"clusterID": "0" * 36, "publicKey": "", "request": request, **spec}}
    return msgspec.convert(body, Tenant)


def test_the_tenants_resources_are_a_ceiling_for_all_its_slices() -> None:
    asked = some(cpu=10, memory=10, pods=10)
    bound = grants.ceiling(tenant(resources={"cpu": 8, "requests.memory": 6, "limits.cpu": 1}), some(cpu=3), asked)
    assert grants.texts(bound) == {"cpu": "5", "memory": "6", "pods": "10"}


@pytest.mark.parametrize(
    ("asked", "bound", "found"),
    [
        ({}, {}, {}),
        ({"a": "b"}, {}, {"a": "b"}),
        ({}, {"pool": "x"}, {"pool": "x"}),
        ({"pool": "x", "a": "b"}, {"pool": "x"}, {"pool": "x", "a": "b"}),
        ({"pool": "y"}, {"pool": "x"}, None),
    ],
)
def test_a_slice_cannot_leave_the_nodes_of_its_tenant(asked: Any, bound: Any, found: Any) -> None:
    spec = {"identity": "n", "resources": {}, "nodeSelector": asked}
    one = msgspec.convert({"spec": spec}, ResourceSlice)
    assert grants.selector(one, tenant(nodeSelector=bound)) == found


def test_whole_units_are_granted_but_for_cpu() -> None:
    assert grants.texts(grants.within(some(cpu="3", pods=9), some(cpu="1500m", pods="2500m"))) == {
        "cpu": "1500m",
        "pods": "2",
    }
    assert grants.within(some(cpu=1), some(cpu=1) | {"x": ONCE}) == some(cpu=1)
    assert grants.texts(grants.within(some(cpu=1), {"cpu": ZERO - ONCE})) == {"cpu": "0"}


def test_others_pods_are_taken_off_their_node_and_tenants_are_told_apart() -> None:
    nodes = [
        msgspec.convert({"metadata": {"name": n}, "status": {"allocatable": {"cpu": "4", "pods": "10"}}}, Node)
        for n in ("n1", "n2")
    ]

    def use(node: str, cpu: int, consumer: str = "") -> Use:
        return Use(node, {**some(cpu=cpu, pods=1)}, consumer)

    found = count(nodes, [use("n1", 1), use("n2", 2, "a"), use("n2", 1, "b"), use("elsewhere", 9)])
    assert grants.texts(found.offered) == {"cpu": "7", "pods": "19"}
    assert {name: grants.texts(held) for name, held in found.used.items()} == {
        "a": {"cpu": "2", "pods": "1"},
        "b": {"cpu": "1", "pods": "1"},
    }
    assert found.nodes == {"n1", "n2"}
