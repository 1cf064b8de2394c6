"""When tokens are renewed: at 80 % of their life as kubelets do, less a jitter, and soon when it is late."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from reflection.tokens import renew_in

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@given(life=st.integers(600, 86_400))
def test_a_token_is_renewed_between_70_and_80_percent_of_its_life(life: int) -> None:
    expiration = (NOW + timedelta(seconds=life)).isoformat().replace("+00:00", "Z")
    assert 0.7 * life - 1 <= renew_in(expiration, now=NOW) <= 0.8 * life + 1


@given(late=st.integers(0, 86_400))
def test_one_that_has_ended_is_renewed_soon(late: int) -> None:
    expiration = (NOW - timedelta(seconds=late)).isoformat().replace("+00:00", "Z")
    assert 0 <= renew_in(expiration, now=NOW) <= 60
