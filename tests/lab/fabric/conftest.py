"""Two clusters in network namespaces, one world for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.lab import packages
from tests.lab.fabric.world import World, connected

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
    with connected() as made:
        yield made
