"""The user-mode kernel's configuration."""

from pathlib import Path

import pytest

from deploy.lab.errors import LabError
from deploy.lab.guest import uml

CHOSEN = [line for line in uml.CONFIG.read_text().splitlines() if line.startswith("CONFIG_")]


def test_a_configuration_that_lacks_something_chosen_is_refused_by_name(tmp_path: Path) -> None:
    made = tmp_path / "config"
    made.write_text("\n".join(["CONFIG_OTHER=y", *CHOSEN]))
    uml.check(made)
    made.write_text("\n".join(line for line in CHOSEN if line != "CONFIG_WIREGUARD=y"))
    with pytest.raises(LabError, match=r"with CONFIG_WIREGUARD=y$"):
        uml.check(made)
