"""Which virtual kubelets are given a probe: those whose provider is reached by a network of ours."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from api.networking.peering import NetworkPeering
from kube.store import Change
from tests.unit.vk_virtualnode.conftest import virtual_node
from vk.virtualnode.controller import VirtualNodes
from vk.virtualnode.settings import VirtualNodeSettings


def peering(name: str, **spec: Any) -> NetworkPeering:
    metadata = {"name": name, "uid": f"uid-{name}", "resourceVersion": "7"}
    return msgspec.convert({"metadata": metadata, "spec": spec}, NetworkPeering)


def controller(*, networked: bool) -> VirtualNodes:
    client: Any = type("Unused", (), {"name": "own", "metrics": None})()
    settings = VirtualNodeSettings(image="i:1", consumer_id="lab", server="https://c", ca=b"", networked=networked)

    async def retire(_: object) -> str:
        return ""

    return VirtualNodes(client, settings, retire=retire)


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ([], False),
        ([peering("south")], False),
        ([peering("north")], True),
        ([peering("north", technology="None")], False),
    ],
    ids=["no network", "another's", "its provider's", "a third party's, where nobody answers"],
)
def test_who_is_given_a_probe(there: list[NetworkPeering], expected: bool) -> None:
    made = controller(networked=True)
    assert made.peerings is not None
    store: Any = made.peerings.store
    for one in there:
        store.upsert(one)
    assert made._probed(virtual_node()) is expected


def test_nobody_is_where_the_network_module_is_off() -> None:
    made = controller(networked=False)
    assert made.peerings is None
    assert not made._probed(virtual_node())


async def test_virtual_nodes_are_looked_at_when_the_network_to_their_provider_comes_or_goes() -> None:
    made = controller(networked=True)
    store: Any = made.virtual_nodes.store
    for virtual in (virtual_node("one"), virtual_node("other", provider="south")):
        store.upsert(virtual)
    there, theirs = peering("north"), peering("north", technology="None")
    for old, new, expected in (
        (None, there, 1),
        (there, there, 0),
        (there, theirs, 1),
        (theirs, None, 0),
        (there, None, 1),
    ):
        made._peering_changed(Change(("", "north"), old, new, initial=False))
        assert len(made.controller.queue) == expected
        if expected:
            assert await made.controller.queue.get() == ("", "one")
            made.controller.queue.done(("", "one"))
