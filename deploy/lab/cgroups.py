"""A control group per site, so that `down` finds every process that a lab made, however it was orphaned.

Containers are in it too: a node's containerd and kubelet live in a cgroup namespace whose root is this group.
Works with cgroup v1 (a folder per hierarchy) and v2 (one folder).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.lab.errors import LabError

MOUNT = Path("/sys/fs/cgroup")
TOP = "isthmus-lab"
# TOP/LAB/SITE: a site's own group takes a process (the holder of its namespaces) before kubelet divides it further.
_SITE_DEPTH = 3


def unified() -> bool:
    """Whether this machine has cgroup v2 only."""
    return (MOUNT / "cgroup.procs").exists()


def hierarchies() -> list[Path]:
    """The root folder of every hierarchy."""
    if unified():
        return [MOUNT]
    return sorted(p for p in MOUNT.iterdir() if not p.is_symlink() and (p / "cgroup.procs").exists())


@dataclass(frozen=True, slots=True)
class Group:
    """A control group by its path below the hierarchies' roots, e.g. isthmus-lab/lab/consumer."""

    path: str

    def folders(self) -> list[Path]:
        """The group's folder in each hierarchy, whether made or not."""
        return [root / self.path for root in hierarchies()]

    def create(self) -> None:
        """Make the group in every hierarchy, ready to take processes."""
        for root in hierarchies():
            folder = root
            for depth, part in enumerate(Path(self.path).parts):
                if depth < _SITE_DEPTH:
                    _delegate(folder)
                folder = folder / part
                folder.mkdir(exist_ok=True)
                _inherit_cpuset(folder)

    def pids(self) -> set[int]:
        """Processes in the group and below it, zombies left out."""
        found: set[int] = set()
        for folder in self.folders():
            # Not rglob: kubelet and containerd remove folders meanwhile, which os.walk passes over.
            for below, _, _ in os.walk(folder):
                with contextlib.suppress(OSError):
                    found.update(int(pid) for pid in (Path(below) / "cgroup.procs").read_text().split())
        return {pid for pid in found if pid and _running(pid)}

    def kill(self, *, timeout: float = 20.0) -> int:
        """SIGKILL everything in the group until nothing is left; returns how many processes that were."""
        deadline = time.monotonic() + timeout
        killed: set[int] = set()
        while pids := self.pids():
            if time.monotonic() > deadline:
                raise LabError(f"processes survive SIGKILL: {sorted(pids)}")
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            killed |= pids
            time.sleep(0.02)
        return len(killed)

    def remove(self, *, timeout: float = 5.0) -> None:
        """Remove the group's folders, deepest first; a folder just emptied may be busy for a moment."""
        deadline = time.monotonic() + timeout
        for top in self.folders():
            for folder in _deepest_first(top):
                while not _rmdir(folder) and time.monotonic() < deadline:
                    time.sleep(0.02)


def remove_empty_top() -> None:
    """Remove the lab's top group when no instance uses it any more."""
    for root in hierarchies():
        _rmdir(root / TOP)


def _deepest_first(top: Path) -> Iterator[Path]:
    for folder, _, _ in os.walk(top, topdown=False):
        yield Path(folder)


def _rmdir(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _delegate(folder: Path) -> None:
    """Let the groups below `folder` have the controllers it has (cgroup v2 only; v1 needs no such thing)."""
    if unified():
        names = (folder / "cgroup.controllers").read_text().split()
        (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in names))


def _inherit_cpuset(folder: Path) -> None:
    # A new cpuset group of v1 has no CPU and no memory node and takes no process until it is given some.
    for name in ("cpuset.cpus", "cpuset.mems"):
        own = folder / name
        if not unified() and own.exists() and not own.read_text().strip():
            own.write_text((folder.parent / name).read_text())


def _running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"
