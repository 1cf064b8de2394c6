"""Which taints a virtual node should have. Pure.

Ours are those of the spec and, while pods find no place at the provider, one that makes schedulers prefer other nodes.
Those that others put on the Node stay; one that the spec had earlier stays too, for nobody tells it from theirs.
"""

from __future__ import annotations

from typing import Any

from api.offloading.virtual_node import VirtualNode
from vk.node.objects import Node

FAILING_CONDITION = "PlacementFailing"
FAILING_TAINT = "offloading.isthmus.dev/placement-failing"

Json = dict[str, Any]


def patched(virtual: VirtualNode, node: Node) -> list[Json] | None:
    """All taints that the Node should have, or None if it has them."""
    wanted: dict[tuple[str, str], str] = {(taint.key, taint.effect): taint.value for taint in virtual.spec.taints}
    failing = node.status.condition(FAILING_CONDITION)
    if failing is not None and failing.status == "True":
        wanted[(FAILING_TAINT, "PreferNoSchedule")] = ""
    shown = {(taint.key, taint.effect): taint.value for taint in node.spec.taints}
    kept = {key: value for key, value in shown.items() if key[0] != FAILING_TAINT}
    result = {**kept, **wanted}
    return None if result == shown else [_taint(key, effect, value) for (key, effect), value in result.items()]


def _taint(key: str, effect: str, value: str) -> Json:
    return {"key": key, "effect": effect, **({"value": value} if value else {})}
