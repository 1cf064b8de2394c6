"""The firewall in the kernel: replaced whole in one transaction of `nft -j`, and compared with what it was made as.

What nft lists is not what it was given (it merges, sorts and names), so the two are not compared. Instead the listing
right after a transaction is kept, with a digest of what was asked for: whoever changes, adds or flushes anything makes
the listing differ. Both digests are on disk too, so a new process leaves a healthy table alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from netfabric.agent import programs
from netfabric.agent.errors import KernelError
from netfabric.agent.nft import FAMILY, TABLE, Json

_NAME = {"family": FAMILY, "name": TABLE}


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A table as it was asked for and as nft listed it then; empty strings: there is none."""

    asked: str = ""
    listed: str = ""


@dataclass(frozen=True, slots=True)
class Count:
    """What a counter says."""

    packets: int
    bytes: int


def digest(objects: Sequence[Json]) -> str:
    """Of objects as asked for."""
    return hashlib.sha256(json.dumps(objects, sort_keys=True).encode()).hexdigest()


async def replace(objects: Sequence[Json]) -> Fingerprint:
    """Have exactly this table: one transaction, so no packet meets half of it. Raises `KernelError`.

    Flows that are under way keep their translations, which are conntrack's, not the table's.
    """
    commands: list[Json] = [{"add": {"table": _NAME}}, {"delete": {"table": _NAME}}]
    if objects:
        commands += [{"add": {"table": _NAME}}, *({"add": item} for item in objects)]
    text = json.dumps({"nftables": commands})
    await programs.run(["nft", "-j", "-f", "-"], stdin=text, reason="FirewallRefused")
    return Fingerprint(digest(objects), await listed()) if objects else Fingerprint()


async def listed() -> str:
    """Digest of the table as it is; empty if there is none. Raises `KernelError`."""
    items = await _items(["list", "table", FAMILY, TABLE])
    return hashlib.sha256(json.dumps(_steady(items), sort_keys=True).encode()).hexdigest() if items else ""


async def counts() -> dict[str, Count]:
    """The table's counters by name; none if there is no table."""
    items = await _items(["list", "counters", "table", FAMILY, TABLE])
    found = (item["counter"] for item in items if "counter" in item)
    return {counter["name"]: Count(counter["packets"], counter["bytes"]) for counter in found}


async def _items(words: Sequence[str]) -> list[Any]:
    try:
        text = await programs.run(["nft", "-j", *words], reason="FirewallUnreadable")
    except KernelError as error:
        if "No such file or directory" in str(error):
            return []
        raise
    items = json.loads(text)["nftables"] if text else []
    return [item for item in items if "metainfo" not in item]


def _steady(value: Any) -> Any:
    """Without what changes by itself: figures of counters, handles, the order of elements."""
    if isinstance(value, dict):
        skipped = {"handle", "packets", "bytes"}
        kept = {key: _steady(item) for key, item in value.items() if key not in skipped}
        if isinstance(kept.get("elem"), list):
            kept["elem"] = sorted(kept["elem"], key=lambda item: json.dumps(item, sort_keys=True))
        return kept
    if isinstance(value, list):
        return [_steady(item) for item in value]
    return value
