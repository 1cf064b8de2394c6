"""Starts agents in places without the seconds that each would spend on importing: that is done once, and forked.

What runs is the product's program, from its command line on. As a program (`python -m tests.lab.fabric.prefork`) it
reads a line of JSON from standard input, {"place": a pid there, "argv": [...], "log": path, "leaps": whether its time
may be moved on}, and answers with the pid of the process that it made; it ends with its standard input, and what it
started goes on.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.lab.paths import ROOT
from tests.lab.fabric import leaps
from tests.lab.fabric.places import Place

_NAMESPACES = ("net", "mnt")


class Process:
    """A process that is nobody's child here."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._handle = os.pidfd_open(pid)

    def send_signal(self, number: signal.Signals) -> None:
        """Signal it, unless it has ended."""
        if not self.ended(0):
            signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        """As a crash would."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float = 20) -> None:
        """Until it has ended. Raises AssertionError."""
        assert self.ended(timeout), f"process {self.pid} did not end within {timeout} s"
        os.close(self._handle)

    def ended(self, timeout: float) -> bool:
        """Whether it has ended within so many seconds."""
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        return bool(poll.poll(timeout * 1000))


class Prefork:
    """One that is ready to be forked."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.lab.fabric.prefork"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def start(self, place: Place, argv: Sequence[str], *, log: Path, leaps: bool = False) -> Process:
        """Run `isthmus ARGV` in a place; with `leaps` its time is moved on by a signal (`leaps.SIGNAL`)."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"place": place.pid, "argv": list(argv), "log": str(log), "leaps": leaps}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return Process(int(self._process.stdout.readline()))

    def close(self) -> None:
        """End it; what it started goes on."""
        self._process.communicate(timeout=20)


def _serve() -> None:
    from isthmus import cli, fabric_agent  # noqa: F401, PLC0415 - what takes long, and only here

    # Whoever ends is gone: nobody here waits for it.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if not pid:
            _become(asked["place"], asked["log"])
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if asked["leaps"]:
                leaps.install()
            cli.main(asked["argv"])
            raise AssertionError("it ends the process")
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _become(place: int, log: str) -> None:
    """A process of its own, in the place, writing to the log."""
    os.setsid()
    libc = ctypes.CDLL(None, use_errno=True)
    for name in _NAMESPACES:
        handle = os.open(f"/proc/{place}/ns/{name}", os.O_RDONLY)
        if libc.setns(handle, 0):
            raise OSError(ctypes.get_errno(), f"setns {name}")
        os.close(handle)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, number in ((nothing, 0), (target, 1), (target, 2)):
        os.dup2(source, number)


if __name__ == "__main__":
    _serve()
