"""Two real control planes with fake nodes at the provider, one lab per test process.

Folders have labs and managers of their own, which go with their last test: idle ones cost a tenth of a core each.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.lab import testing
from deploy.lab.cluster import LabCluster
from deploy.lab.faults import Faults
from deploy.lab.lab import Lab
from deploy.lab.settings import LabSettings
from tests import leftovers

_HERE = Path(__file__).parent
_FAKE_NODES = 2
_shared: list[Lab] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test of a process pays for its lab."""
    for item in items:
        if _HERE in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(180))


@pytest.fixture(scope="package")
def lab() -> Iterator[Lab]:
    with testing.temporary(LabSettings(nodes=0, kwok=_FAKE_NODES, audit="Request")) as made:
        _shared.append(made)
        yield made
        _shared.remove(made)


@pytest.fixture(scope="module", autouse=True)
def no_nodes_left() -> Iterator[None]:
    """Fail if a module leaves a Node in the lab that all share: what offloads would take it for a virtual node."""
    yield
    for made in _shared:
        leftovers.no_nodes(made)


@pytest.fixture(scope="package")
def consumer(lab: Lab) -> LabCluster:
    return lab.consumer


@pytest.fixture(scope="package")
def provider(lab: Lab) -> LabCluster:
    return lab.provider


@pytest.fixture(scope="package")
def lab_gateway(lab: Lab) -> str:
    """The machine's own address on the lab's network."""
    return lab.network.root.ip


@pytest.fixture
def namespace(lab: Lab) -> Iterator[str]:
    """A fresh namespace of the same name in both clusters."""
    with testing.namespaces(lab, f"test-{uuid.uuid4().hex[:10]}") as name:
        yield name


@pytest.fixture
def faults(lab: Lab) -> Iterator[Faults]:
    """Faults that are healed when the test ends."""
    made = Faults(lab)
    yield made
    made.heal()
