"""Where things are: the checkout, the cache of binaries, the state of running instances, the files handed to people.

Three places, each with another life: the cache survives everything (binaries are built once), the state lives from
`up` to `down`, and `.lab/` in the checkout holds only what a person or a test reads (kubeconfigs and `env`).
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOLANG = Path(__file__).resolve().parent / "golang"
# On a disk-backed file system (overlayfs upper layers of containerd) and short (UNIX socket paths end at 107 bytes).
STATE = Path("/var/lib/isthmus-lab")
DEFAULT_NAME = "lab"


def cache() -> Path:
    """The folder of built binaries and locks, made if absent."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(base) / "isthmus" / "lab"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def state(name: str) -> Path:
    """The state folder of the instance `name`; it exists only from `up` to `down`."""
    return STATE / name


def output(name: str) -> Path:
    """Where the instance's kubeconfigs and `env` are handed out."""
    folder = ROOT / ".lab"
    return folder if name == DEFAULT_NAME else folder / name
