"""The end of what the folder's first test began: see `silence`."""

import pytest

from tests.lab.offload.conftest import SILENCE, Silence


@pytest.mark.timeout(480)
def test_logs_follow_through_five_minutes_of_silence(silence: Silence) -> None:
    output, _ = silence.follower.communicate(timeout=SILENCE + 60)
    assert output == b"before\nafter\n"
    assert silence.follower.returncode == 0
