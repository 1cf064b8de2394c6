"""Two clusters in network namespaces, one world for all tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.lab import packages
from tests.lab.fabric.world import World

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test pays for the world; programs start slowly on a machine that has other things to do."""
    for item in items:
        if _HERE in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(240))


@pytest.fixture(scope="package")
def world() -> Iterator[World]:
    """Connected; a test leaves it so."""
    packages.ensure_fabric()
    with tempfile.TemporaryDirectory(prefix="isf-") as folder:
        made = World(Path(folder))
        try:
            made.up()
            made.await_connected()
            yield made
        finally:
            made.down()
