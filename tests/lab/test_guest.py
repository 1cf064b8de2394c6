"""The guests: the fabric on the kernel's own tunnels in them, and what is said when a command does not end."""

import shlex
from collections.abc import Sequence

import pytest

from deploy.lab.errors import LabError
from deploy.lab.guest import boot
from deploy.lab.guest.machines import Machine

FABRIC = "tests/lab/fabric"
PYTEST = [
    "python3",
    "-m",
    "pytest",
    "-q",
    "-p",
    "no:cacheprovider",
    "--color=no",
    "--durations=20",
    "--durations-min=5",
]
ON_THE_STOCK_KERNEL = (
    "guest_only.py",
    "test_paths.py::test_pod_to_pod[4-west]",
    "test_paths.py::test_pod_to_pod[6-east]",
)
"""It is the same code as the other's, and each test takes twenty times as long."""
ON_ITS_SOURCE = ("guest_only.py", "test_paths.py", "test_drift.py", "test_three.py", "test_faults.py", "test_cuts.py")
LONG = (
    "test_faults.py::test_200_reconfigurations_do_not_disturb_a_stream",
    "test_faults.py::test_f34_a_controller_that_is_away_for_an_hour_is_not_missed",
    "test_cuts.py::test_f34_streams_go_on_soon_after_a_cut[60]",
)
"""They try the agent more than the kernel, and take as long as all others together: two have programs start by the
hundred, which is what such a kernel is slow at."""
EVERY = pytest.mark.parametrize("machine", [Machine.QEMU, Machine.UML])


def fabric(tests: Sequence[str], *, machine: Machine, timeout: float) -> None:
    """Run tests of tests/lab/fabric in a guest."""
    said: list[str] = []
    words = [f"--deselect={FABRIC}/{name}" for name in LONG] + [f"{FABRIC}/{name}" for name in tests]
    command = f"{shlex.join([*PYTEST, *words])} && exit 7"
    ended = boot.run(["sh", "-c", command], timeout=timeout, machine=machine, tell=said.append)
    assert ended == 7, "\n".join(said)


@pytest.mark.timeout(900)
def test_pods_reach_each_other_by_the_stock_kernels_wireguard_and_geneve() -> None:
    fabric(ON_THE_STOCK_KERNEL, machine=Machine.QEMU, timeout=800)


@pytest.mark.timeout(1000)
def test_paths_faults_drift_and_three_clusters_on_kernel_wireguard_and_geneve() -> None:
    fabric(ON_ITS_SOURCE, machine=Machine.UML, timeout=900)


@pytest.mark.timeout(400)
@EVERY
def test_a_guest_that_takes_too_long_is_ended(machine: Machine) -> None:
    with pytest.raises(LabError, match="did not end within 1 s"):
        boot.run(["sleep", "1000"], timeout=1, machine=machine)
