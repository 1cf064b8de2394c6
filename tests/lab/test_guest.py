"""The guests: the fabric on the kernel's own tunnels in them, and what is said when a command does not end."""

import pytest

from deploy.lab.errors import LabError
from deploy.lab.guest import boot
from deploy.lab.guest.machines import Machine

PYTEST = "python3 -m pytest -q -p no:cacheprovider --color=no --durations=20 --durations-min=5"
# They try the agent more than the kernel, and take as long as all others together: each has programs start by the
# hundred, which is what such a kernel is slow at.
LONG = "-k 'not 200_reconfigurations and not away_for_an_hour'"
EVERY = pytest.mark.parametrize("machine", [Machine.QEMU, Machine.UML])


def fabric(*files: str, machine: Machine, timeout: float) -> None:
    """Run files of tests/lab/fabric in a guest."""
    said: list[str] = []
    names = " ".join(f"tests/lab/fabric/{name}" for name in files)
    ended = boot.run(
        ["sh", "-c", f"{PYTEST} {LONG} {names} && exit 7"], timeout=timeout, machine=machine, tell=said.append
    )
    assert ended == 7, "\n".join(said)


@pytest.mark.timeout(900)
def test_pods_reach_each_other_by_kernel_wireguard_and_geneve_over_any_path() -> None:
    fabric("guest_only.py", "test_paths.py::test_pod_to_pod", machine=Machine.QEMU, timeout=800)


@pytest.mark.timeout(1000)
def test_paths_faults_drift_and_three_clusters_on_kernel_wireguard_and_geneve() -> None:
    files = ("guest_only.py", "test_paths.py", "test_drift.py", "test_three.py", "test_faults.py")
    fabric(*files, machine=Machine.UML, timeout=900)


@pytest.mark.timeout(400)
@EVERY
def test_a_guest_that_takes_too_long_is_ended(machine: Machine) -> None:
    with pytest.raises(LabError, match="did not end within 1 s"):
        boot.run(["sleep", "1000"], timeout=1, machine=machine)
