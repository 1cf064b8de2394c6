"""Pieces of a Linux userland without a package manager's database: Debian packages unpacked, Python packages pinned.

Images and the guest's root are made of these; no container engine and no debootstrap takes part.
"""

from __future__ import annotations

import configparser
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.lab import paths
from deploy.lab.console import run

PYTHON = "3.11"
PYTHON_PACKAGES = (
    *("ca-certificates", "libbz2-1.0", "libc6", "libcrypt1", "libexpat1", "libffi8", "libgcc-s1", "liblzma5"),
    *("libssl3", "libstdc++6", "libuuid1", "zlib1g"),
    *(f"python{PYTHON}-minimal", f"libpython{PYTHON}-minimal", f"libpython{PYTHON}-stdlib"),
)
"""Debian's Python and what it links to."""
_NEEDLESS = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian", "usr/share/pixmaps")
_KEPT_SECONDS = 3600.0


def project() -> configparser.ConfigParser:
    """setup.cfg as it is in the checkout."""
    parser = configparser.ConfigParser()
    parser.read(paths.ROOT / "setup.cfg")
    return parser


def requirements() -> list[str]:
    """What isthmus needs to run."""
    return project()["options"]["install_requires"].split()


def package_metadata() -> tuple[str, bytes]:
    """Name and content of the file by which Python knows the version of code that only lies in a folder."""
    version = project()["metadata"]["version"]
    text = f"Metadata-Version: 2.1\nName: isthmus\nVersion: {version}\n"
    return f"isthmus-{version}.dist-info/METADATA", text.encode()


def know_debian() -> None:
    """Have apt's lists of what there is."""
    if not any(Path("/var/lib/apt/lists").glob("*_Packages*")):
        run(["apt-get", "-qq", "update"], timeout=300)


def download_debian(packages: Sequence[str], *, folder: Path) -> list[Path]:
    """The packages' files, fetched into `folder`; needs apt's own sources only."""
    folder.mkdir(parents=True)
    know_debian()
    run(["apt-get", "-qq", "download", *packages], cwd=folder, timeout=600)
    return sorted(folder.glob("*.deb"))


def unpack_debian(packages: Sequence[str], *, folder: Path, root: Path) -> None:
    """Unpack, not install: none of the packages may need its scripts. What nobody reads there is left out."""
    root.mkdir(exist_ok=True)
    for file in download_debian(packages, folder=folder / "debs"):
        run(["dpkg-deb", "-x", file, root], timeout=60)
    for needless in _NEEDLESS:
        shutil.rmtree(root / needless, ignore_errors=True)


def install_python_packages(target: Path, wanted: Iterable[str]) -> None:
    """Wheels of the pinned versions for the userland's Python, whatever Python runs this."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
    foreign = ["--only-binary=:all:", f"--python-version={PYTHON}", "--implementation=cp", f"--target={target}"]
    constraints = paths.ROOT / "constraints.txt"
    run([*pip, *foreign, f"--constraint={constraints}", "--root-user-action=ignore", *wanted], timeout=600)


def compile_python(root: Path, folders: Iterable[str]) -> None:
    """Compile all of Python in `folders` (absolute, inside `root`) by the root's own Python: it proves that it runs."""
    python = [f"/usr/bin/python{PYTHON}", "-m", "compileall", "-q", "--invalidation-mode=unchecked-hash"]
    run(["chroot", root, *python, *folders], timeout=300)


def forget(pattern: str) -> None:
    """Remove from the cache what nobody has used for an hour; a younger one may be in use by another checkout."""
    for old in paths.cache().glob(pattern):
        if time.time() - old.stat().st_mtime > _KEPT_SECONDS:
            old.unlink()


@contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """In the cache, whose file system has room."""
    paths.cache().mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{purpose}-{os.getpid()}-", dir=paths.cache()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
