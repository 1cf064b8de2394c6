"""Locks between processes, by flock: released by the kernel when the holder dies, however it dies."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from deploy.lab import paths
from deploy.lab.console import say


@contextmanager
def hold(name: str, *, waiting: str = "") -> Iterator[None]:
    """Hold the machine-wide lock `name`; says `waiting` once if another process has it."""
    folder = paths.cache() / "locks"
    folder.mkdir(exist_ok=True)
    with (folder / name).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                say(waiting)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
