"""Labs for figures: of their own, removed at the end, and swept up later if the bench was killed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from deploy.lab import lab as labs
from deploy.lab.lab import Lab
from deploy.lab.settings import LabSettings

_NAME = re.compile(r"bench-(\d+)(-\d+)?")


@contextmanager
def temporary(settings: LabSettings, *, number: int = 0) -> Iterator[Lab]:
    """A lab named after this process (`number` tells several apart), removed however the block ends.

    Without audit log: nothing here reads it, and writing it is not what is measured.
    """
    _sweep()
    name = f"bench-{os.getpid()}" + (f"-{number}" if number else "")
    try:
        yield Lab.up(replace(settings, name=name, audit="None"))
    finally:
        labs.remove(name)


def _sweep() -> None:
    for standing in labs.instances():
        match = _NAME.fullmatch(standing.name)
        if match and not Path(f"/proc/{match[1]}").exists():
            standing.down()
