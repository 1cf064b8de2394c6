"""The guest: what runs in it, and what it says when it can't."""

import pytest

from deploy.lab.errors import LabError
from deploy.lab.guest import boot


@pytest.mark.timeout(400)
def test_a_guest_has_kernel_wireguard_and_geneve_and_tells_how_the_command_ended() -> None:
    said: list[str] = []
    links = "ip link add g0 type geneve id 1 remote 127.0.0.1 && ip link add w0 type wireguard && echo both; exit 7"
    assert boot.run(["sh", "-c", links], timeout=300, tell=said.append) == 7
    assert said == ["both"]


@pytest.mark.timeout(400)
def test_a_guest_that_takes_too_long_is_ended() -> None:
    with pytest.raises(LabError, match="did not end within 1 s"):
        boot.run(["sleep", "1000"], timeout=1)
