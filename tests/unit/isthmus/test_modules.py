"""The modules of a manager: which are chosen, and in which order."""

import pytest

from isthmus.modules import consumer, provider, table
from isthmus.options import OptionsError


def test_without_being_told_a_manager_is_a_consumers() -> None:
    assert table.chosen([]) == [consumer.add]


def test_modules_are_added_in_the_order_of_the_table() -> None:
    assert (
        table.chosen(["consumer", "provider"])
        == table.chosen(["provider", "consumer"])
        == [
            provider.add,
            consumer.add,
        ]
    )


def test_an_unknown_module_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        OptionsError, match=r"--module 'provide': expected one of tenants, provider, peers, consumer, network"
    ):
        table.chosen(["provide"])
