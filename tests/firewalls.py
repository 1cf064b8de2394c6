"""How much there is in a firewall's table, by libnftables-json(5): as it is rendered, or as nft lists it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

Json = dict[str, Any]


def rules(items: Iterable[Json]) -> int:
    """All rules."""
    return sum("rule" in item for item in items)


def met(items: Iterable[Json], number: int) -> int:
    """Rules that packets of one peer can meet at most: those that all packets meet, and those of that peer's chains."""
    chains = [item["rule"]["chain"] for item in items if "rule" in item]
    return sum(not (last := chain.rpartition("_")[2]).isdigit() or last == str(number) for chain in chains)


def elements(items: Iterable[Json]) -> int:
    """Members of all sets and maps, those that rules bring along included."""
    return sum(len(members) for item in items for members in _members(item))


def _members(value: Any) -> Iterator[list[Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("elem", "set") and isinstance(inner, list):
                yield inner
            yield from _members(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _members(inner)
