"""Two whole clusters with real kubelets, one lab per test process: until that goes on to tests of another kind."""

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
_OFFLOAD = _HERE / "offload"
_shared: list[Lab] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test of a process pays for its lab."""
    for item in items:
        if _HERE in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="package")
def lab() -> Iterator[Lab]:
    with testing.temporary(LabSettings(audit="RequestResponse"), number=10) as made:
        _shared.append(made)
        yield made
        _shared.remove(made)


@pytest.fixture(scope="module", autouse=True)
def no_nodes_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail if a module leaves a Node in the lab that all share; what is in a folder may share one as well."""
    yield
    for made in _shared:
        if _OFFLOAD not in request.path.parents:
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
