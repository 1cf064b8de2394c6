"""Pods of two clusters with the same addresses reach each other, both ways, in both families."""

from __future__ import annotations

import pytest

from tests.lab.fabric.world import PORT, World


@pytest.mark.parametrize("side", ["west", "east"])
@pytest.mark.parametrize("version", [4, 6])
def test_pod_to_pod(world: World, side: str, version: int) -> None:
    cluster = getattr(world, side)
    address = cluster.remote if version == 4 else cluster.remote6
    assert cluster.pings(address)
    assert cluster.pod.run(cluster.traffic("tcp", address, PORT, 300_000)).strip() == "300000"
    assert cluster.pod.run(cluster.traffic("udp", address, PORT, 1000)).strip() == "1000"
