"""Units: the lab's long-running programs. Started detached, found again by any later process, stopped by their pid.

A unit's definition and pid are files, so that the command line, a test and a crashed bring-up see the same thing. A pid
counts only together with the process's start time: the kernel uses pids again.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from deploy.lab import cgroups
from deploy.lab.errors import LabError
from deploy.lab.network import Site

# The shell joins the groups and leaves its pid before it becomes the program, so that nothing is ever outside.
_LAUNCH = """
pidfile=$1; shift
while [ "$1" != -- ]; do echo $$ >"$1" || exit 1; shift; done; shift
echo $$ >"$pidfile"; exec "$@"
"""
_TAIL = 4000
_LONGEST_REST = 1.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSpec:
    """How to run a program."""

    name: str
    argv: list[str]
    netns: str
    """Name of the network namespace; empty for the machine's own."""
    group: str
    """Path of the control group."""
    env: dict[str, str] = field(default_factory=dict)
    inside: str = ""
    """Name of the unit of the same folder whose mount and cgroup namespaces to enter."""


class Unit:
    """A program of the lab, by the folder its files are in."""

    def __init__(self, spec: UnitSpec, folder: Path) -> None:
        self.spec = spec
        self._folder = folder
        self._pidfile = folder / f"{spec.name}.pid"
        self.log = folder / f"{spec.name}.log"

    @classmethod
    def load(cls, folder: Path, name: str) -> Unit:
        """A unit defined earlier, perhaps by another process."""
        file = folder / f"{name}.json"
        if not file.exists():
            raise LabError(f"there is no unit {name!r} in {folder}")
        return cls(UnitSpec(**json.loads(file.read_text())), folder)

    @property
    def pid(self) -> int | None:
        """The pid while the program runs (or is paused), else None."""
        try:
            pid, started = json.loads(self._pidfile.read_text())
        except (FileNotFoundError, ValueError, TypeError):
            return None
        state, start_time = _stat(pid)
        return pid if start_time == started and state not in "ZX" else None

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.pid is not None

    def start(self) -> None:
        """Start the program unless it runs."""
        if self.alive:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        launched = self._folder / f".{self.spec.name}.launched"
        launched.unlink(missing_ok=True)
        groups = [str(folder / "cgroup.procs") for folder in cgroups.Group(self.spec.group).folders()]
        command = ["setsid", "--fork", "sh", "-c", _LAUNCH, "launch", str(launched), *groups, "--", *self._command()]
        with self.log.open("ab") as log, Path(os.devnull).open("rb") as null:
            self._spawn(command, stdin=null.fileno(), output=log.fileno())
        pid = int(wait_until(lambda: _text(launched), what=f"{self.spec.name} to start", timeout=20))
        launched.unlink()
        self._pidfile.write_text(json.dumps([pid, _stat(pid)[1]]))
        # Last: who sees the definition may expect the program to run.
        # At once: others may look at any moment.
        written = self._folder / f".{self.spec.name}.definition"
        written.write_text(json.dumps(asdict(self.spec)))
        written.rename(self._folder / f"{self.spec.name}.json")

    def stop(self, *, timeout: float = 25.0) -> None:
        """SIGTERM, and SIGKILL if that is not heeded within `timeout` seconds: isthmus itself ends within 20."""
        pid = self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)
        with contextlib.suppress(LabError):
            wait_until(lambda: not self.alive, what=f"pid {pid} to end", timeout=timeout)
        self.kill()

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self._signal(signal.SIGKILL):
            wait_until(lambda: not self.alive, what=f"{self.spec.name} to die", timeout=10)
        self._pidfile.unlink(missing_ok=True)

    def pause(self) -> None:
        """SIGSTOP: the program keeps its connections and answers nothing from now on."""
        if (pid := self._signal(signal.SIGSTOP)) is not None:
            # On a busy machine its threads run on until each of them has seen the signal.
            wait_until(lambda: _stopped(pid), what=f"{self.spec.name} to stop", timeout=10)

    def resume(self) -> None:
        """Undo `pause`."""
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def log_tail(self) -> str:
        """The end of the log, for an error message."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _TAIL))
            return file.read().decode(errors="replace")

    def check_alive(self) -> None:
        """LabError with the end of its log if the program ended."""
        if not self.alive:
            raise LabError(f"{self.spec.name} ended; the end of {self.log}:\n{self.log_tail()}")

    def enter(self, argv: Sequence[str | Path]) -> list[str]:
        """The command line that runs `argv` in this running unit's network, mount and cgroup namespaces."""
        if (pid := self.pid) is None:
            raise LabError(f"{self.spec.name} does not run, its namespaces can't be entered")
        spaces = [
            f"--{kind}=/proc/{pid}/ns/{file}" for kind, file in (("net", "net"), ("mount", "mnt"), ("cgroup",) * 2)
        ]
        return ["nsenter", *spaces, "--", *(str(word) for word in argv)]

    def _command(self) -> list[str]:
        if self.spec.inside:
            return Unit.load(self._folder, self.spec.inside).enter(self.spec.argv)
        return Site("", self.spec.netns, "").command(self.spec.argv)

    def _spawn(self, command: Sequence[str], *, stdin: int, output: int) -> None:
        # `setsid --fork` ends at once, so the program is nobody's child here: no zombie to reap, no handle to leak.
        pid = os.posix_spawnp(
            command[0],
            list(command),
            {**os.environ, **self.spec.env},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, stdin, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
        )
        if os.waitpid(pid, 0)[1] != 0:
            raise LabError(f"{self.spec.name} could not be started: {self.log_tail()}")

    def _signal(self, number: signal.Signals) -> int | None:
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return pid


def wait_until(condition: Callable[[], T], *, what: str, timeout: float, every: float = 0.02) -> T:
    """The condition's first true value; LabError after `timeout` seconds. Exceptions of the condition pass through.

    A condition that costs much, as one by kubectl does, is not looked at so often.
    """
    deadline = time.monotonic() + timeout
    while True:
        began = time.monotonic()
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout:.0f} s for {what}")
        time.sleep(max(every, min(2 * (time.monotonic() - began), _LONGEST_REST)))


def _text(path: Path) -> str:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return ""
    return text if text.endswith("\n") else ""


def _stopped(pid: int) -> bool:
    """Whether no thread of a process runs (proc(5)); true of one that has ended."""
    for file in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            if file.read_text().rpartition(")")[2].split()[0] not in "TtZX":
                return False
    return True


def _stat(pid: int) -> tuple[str, int]:
    """(state, start time) of a process by proc(5); ("X", 0) if there is none.

    One whose first thread is a zombie has ended only when that is its last: until then it keeps its sockets ("D").
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "X", 0
    state, threads = fields[0], int(fields[17])
    return "D" if state == "Z" and threads > 1 else state, int(fields[19])
