"""An earlier version of the program, from the repository's history."""

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from deploy.lab.paths import ROOT

FROM = "ISTHMUS_UPGRADE_FROM"
"""Commit to begin with; without it the last tag before HEAD, or else the commit before it."""


def extracted(folder: Path) -> Path:
    """The files of the earlier version, in `folder`."""
    commit = _commit()
    archive = folder / "earlier.tar"
    archive.write_bytes(_git("archive", "--format=tar", commit))
    with tarfile.open(archive) as files:
        files.extractall(folder / "source", filter="data")
    archive.unlink()
    return folder / "source"


def _commit() -> str:
    wanted = os.environ.get(FROM) or _found("describe", "--tags", "--abbrev=0", "HEAD^") or "HEAD~1"
    found = _found("rev-parse", "--verify", "--quiet", f"{wanted}^{{commit}}")
    if not found:
        pytest.fail(
            f"commit {wanted} is not there: clone with full history (git fetch --unshallow), or name one by {FROM}"
        )
    return found


def _found(*arguments: str) -> str:
    try:
        return _git(*arguments).decode().strip()
    except subprocess.CalledProcessError:
        return ""


def _git(*arguments: str) -> bytes:
    try:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True).stdout
    except FileNotFoundError:
        pytest.fail("git is not installed: it is needed to fetch an earlier version")
