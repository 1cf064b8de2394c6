"""Two clusters in network namespaces, one world per module's tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.fabric.world import World


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """Connected; a test leaves it so."""
    with tempfile.TemporaryDirectory(prefix="isf-") as folder:
        made = World(Path(folder))
        try:
            made.up()
            made.await_connected()
            yield made
        finally:
            made.down()
