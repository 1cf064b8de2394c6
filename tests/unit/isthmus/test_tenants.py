"""What a provider's manager tells consumers of its API server."""

import pytest

from isthmus.modules.tenants import advertised
from isthmus.options import OptionsError

INSIDE = "https://10.96.0.1:443"
OUTSIDE = "https://api.north.example:6443"


@pytest.mark.parametrize(
    ("asked", "seen", "inside"), [(OUTSIDE, INSIDE, "10.96.0.1"), ("", OUTSIDE, None), ("", OUTSIDE, "10.96.0.1")]
)
def test_consumers_are_told_an_address_that_they_can_reach(asked: str, seen: str, inside: str | None) -> None:
    assert advertised(asked, seen=seen, inside=inside) == OUTSIDE


def test_the_address_of_a_service_is_refused_unless_it_is_asked_for() -> None:
    with pytest.raises(OptionsError, match=r"--advertise-server: needed.*10\.96\.0\.1"):
        advertised("", seen=INSIDE, inside="10.96.0.1")
    assert advertised(INSIDE, seen=INSIDE, inside="10.96.0.1") == INSIDE


def test_only_https_is_told() -> None:
    with pytest.raises(OptionsError, match="expected an https:// URL"):
        advertised("http://api.north.example", seen=OUTSIDE, inside=None)
