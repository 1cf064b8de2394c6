"""What the provider's nodes have free."""

from typing import Any

import msgspec
import pytest

from kube.quantities import Quantity
from vk.node import inventory
from vk.node.objects import Node
from vk.node.uses import Use

OWN = "shop"
READY = [{"type": "Ready", "status": "True"}]


def node(name: str, cpu: str, *, memory: str = "8Gi", conditions: Any = READY, **spec: Any) -> Node:
    labels = spec.pop("labels", {})
    status = {"allocatable": {"cpu": cpu, "memory": memory, "pods": "10"}, "conditions": conditions}
    return msgspec.convert({"metadata": {"name": name, "labels": labels}, "spec": spec, "status": status}, Node)


def use(where: str, cpu: str, *, ours: bool = False) -> Use:
    return Use(where, {"cpu": Quantity.parse(cpu), "pods": Quantity.parse("1")}, OWN if ours else "")


def test_the_sum_is_less_others_use_and_the_freest_less_all_use() -> None:
    uses = [use("a", "3"), use("a", "2", ours=True), use("b", "1", ours=True), use("elsewhere", "9")]
    found = inventory.free([node("a", "8"), node("b", "4")], uses, own=OWN, selected=False)
    assert {name: str(amount) for name, amount in found.offered.items()} == {"cpu": "9", "memory": "16Gi", "pods": "19"}
    assert (str(found.largest["cpu"]), str(found.largest["pods"])) == ("3", "8")


def test_a_full_node_has_nothing_and_never_less() -> None:
    found = inventory.free([node("a", "1")], [use("a", "3")], own=OWN, selected=False)
    assert str(found.offered["cpu"]) == "0"
    assert str(found.largest["cpu"]) == "0"


@pytest.mark.parametrize(
    ("one", "selected", "counted"),
    [
        (node("a", "1"), False, True),
        (node("a", "1", unschedulable=True), True, False),
        (node("a", "1", conditions=[{"type": "Ready", "status": "Unknown"}]), True, False),
        (node("a", "1", conditions=[]), True, False),
        (node("a", "1", labels={"type": "virtual-kubelet"}), True, False),
        (node("a", "1", taints=[{"key": "gpu", "effect": "NoSchedule"}]), False, False),
        (node("a", "1", taints=[{"key": "gpu", "effect": "NoSchedule"}]), True, True),
        (node("a", "1", taints=[{"key": "gpu", "effect": "PreferNoSchedule"}]), False, True),
    ],
)
def test_which_nodes_count(one: Node, selected: bool, counted: bool) -> None:
    assert inventory.counts(one, selected=selected) is counted


def test_nothing_is_free_where_no_node_counts() -> None:
    found = inventory.free([], [use("a", "1")], own=OWN, selected=False)
    assert (found.offered, found.largest) == ({}, {})
