"""The processes of a control group, while others divide and remove it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from deploy.lab import cgroups


def test_folders_that_go_meanwhile_do_not_end_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As kubelet and containerd remove a pod's groups while a lab is taken down."""
    monkeypatch.setattr(cgroups, "MOUNT", tmp_path)
    group = tmp_path / "isthmus-lab" / "lab"
    group.mkdir(parents=True)
    for folder in (tmp_path, group):
        (folder / "cgroup.procs").write_text("")
    (group / "cgroup.procs").write_text(f"{os.getpid()}\n")
    done = threading.Event()
    mover = threading.Thread(target=_come_and_go, args=(group, done))
    mover.start()
    try:
        for _ in range(300):
            assert cgroups.Group("isthmus-lab/lab").pids() == {os.getpid()}
    finally:
        done.set()
        mover.join()


def _come_and_go(group: Path, done: threading.Event) -> None:
    while not done.is_set():
        pods = [group / f"pod{number}" / "container" for number in range(20)]
        for pod in pods:
            pod.mkdir(parents=True)
        for pod in pods:
            pod.rmdir()
            pod.parent.rmdir()
