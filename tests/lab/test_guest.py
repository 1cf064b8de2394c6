"""The guest: the fabric on the kernel's own tunnels in it, and what is said when a command does not end."""

import pytest

from deploy.lab.errors import LabError
from deploy.lab.guest import boot

PYTEST = "python3 -m pytest -q -p no:cacheprovider"
FABRIC = "guest_only.py test_paths.py::test_pod_to_pod"


@pytest.mark.timeout(900)
def test_pods_reach_each_other_by_kernel_wireguard_and_geneve_over_any_path() -> None:
    said: list[str] = []
    files = " ".join(f"tests/lab/fabric/{name}" for name in FABRIC.split())
    ended = boot.run(["sh", "-c", f"{PYTEST} {files} && exit 7"], timeout=800, tell=said.append)
    assert ended == 7, "\n".join(said)


@pytest.mark.timeout(400)
def test_a_guest_that_takes_too_long_is_ended() -> None:
    with pytest.raises(LabError, match="did not end within 1 s"):
        boot.run(["sleep", "1000"], timeout=1)
