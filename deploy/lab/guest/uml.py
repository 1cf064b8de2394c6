"""User-Mode Linux: Debian's kernel source built as a program, which runs what is in it on this processor, not emulated.

What is patched and chosen lies beside this file. Debian's own package of it lacks WireGuard, and ends at its first
program where the processor's registers take more room than it thought (AVX-512, AMX).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

from deploy.lab import locks, packages, paths, userland
from deploy.lab.console import long_step, run
from deploy.lab.errors import LabError

_SOURCE = "linux-source-6.1"
CONFIG = Path(__file__).with_name("uml.config")
"""What is chosen; of all else as little as can be."""
_PATCH = Path(__file__).with_name("uml.patch")


def kernel() -> Path:
    """The kernel's program: made once from Debian's newest source of this release, some minutes."""
    with locks.hold("guest-uml", waiting="another process builds the user-mode kernel, waiting"):
        program = paths.cache() / f"guest-uml-{_key()}"
        if not program.exists():
            userland.forget("guest-uml-*")
            packages.ensure_kernel_build()
            with (
                long_step("building the user-mode kernel, once, 6 minutes"),
                userland.temporary_folder("guest") as folder,
            ):
                shutil.move(_build(folder), program)
        program.touch()  # in use: see userland.forget
        return program


def _key() -> str:
    userland.know_debian()
    newest = run(["apt-cache", "show", "--no-all-versions", _SOURCE])
    digest = hashlib.sha256(newest.encode())
    for file in (CONFIG, _PATCH):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _build(folder: Path) -> Path:
    userland.unpack_debian([_SOURCE], folder=folder, root=folder / "package")
    run(["tar", "-xJf", f"package/usr/src/{_SOURCE}.tar.xz"], cwd=folder, timeout=300)
    source = folder / _SOURCE
    run(["patch", "--strip=1", f"--input={_PATCH}"], cwd=source)
    make = ["nice", "make", "--silent", "ARCH=um"]
    run([*make, f"KCONFIG_ALLCONFIG={CONFIG}", "allnoconfig"], cwd=source, timeout=300)
    check(source / ".config")
    run([*make, f"-j{os.cpu_count() or 1}", "linux"], cwd=source, timeout=3600)
    return source / "linux"


def check(made: Path) -> None:
    """What depends on something that is not chosen is left out without a word."""
    chosen = re.compile(r"^CONFIG_.*", re.MULTILINE)
    if lacking := set(chosen.findall(CONFIG.read_text())) - set(chosen.findall(made.read_text())):
        raise LabError(f"the kernel cannot be configured with {', '.join(sorted(lacking))}")
