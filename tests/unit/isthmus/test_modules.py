"""The modules of a manager: which are chosen, and in which order."""

import subprocess
import sys

import pytest

from deploy.lab.paths import ROOT
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


def test_each_name_is_a_module() -> None:
    assert len(table.chosen(table.MODULES)) == len(table.MODULES)


def test_a_manager_loads_only_what_it_does() -> None:
    code = "import sys; from isthmus.modules import table; table.chosen(['provider']); print('grpc' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"
