"""Progress lines of the lab, and running a short helper program."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.lab.errors import LabError


def say(message: str) -> None:
    """One line for the person who waits, on standard error: standard output stays for results."""
    print(f"lab: {message}", file=sys.stderr, flush=True)


@contextmanager
def long_step(message: str, *, every: float = 20.0) -> Iterator[None]:
    """Say `message`, and every `every` seconds that it still goes on."""
    done = threading.Event()
    started = time.monotonic()
    say(message)

    def nag() -> None:
        while not done.wait(every):
            say(f"  ... still at it after {time.monotonic() - started:.0f} s")

    thread = threading.Thread(target=nag, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def run(
    argv: Sequence[str | Path],
    *,
    stdin: str | None = None,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    check: bool = True,
    timeout: float | None = 60.0,
) -> str:
    """Run a helper program to its end and return its standard output; LabError with its words if it fails."""
    command = [str(part) for part in argv]
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, cwd=cwd, env=env, timeout=timeout, check=False
        )
    except FileNotFoundError as error:
        raise LabError(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(command)} did not end within {timeout} s") from error
    if check and done.returncode != 0:
        raise LabError(
            f"{' '.join(command)} failed ({done.returncode}): {(done.stderr or done.stdout).strip()[-2000:]}"
        )
    return done.stdout
