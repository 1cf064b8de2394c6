"""Debian packages that the lab's clusters need; only the missing ones are installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from deploy.lab import locks
from deploy.lab.console import long_step, run
from deploy.lab.errors import LabError

CNI_PLUGINS = Path("/usr/lib/cni")
BUSYBOX = Path("/bin/busybox")

# What must be there -> the package that brings it.
_CONTROL_PLANE = {"ip": "iproute2", "nft": "nftables", "nsenter": "util-linux"}
_NODE = {
    "containerd": "containerd",
    "runc": "runc",
    "conntrack": "conntrack",
    str(CNI_PLUGINS / "ptp"): "containernetworking-plugins",
    str(BUSYBOX): "busybox-static",
    "iptables": "iptables",
}
# The fabric's agents, and what its tests ask with.
_FABRIC = {"conntrack": "conntrack", "wg": "wireguard-tools", "wireguard-go": "wireguard-go", "ping": "iputils-ping"}
_GUEST = {"cpio": "cpio", "dpkg-deb": "dpkg"}
_EMULATOR = {"qemu-system-x86_64": "qemu-system-x86"}
# What builds C++ has the headers of C, which no program shows.
_KERNEL_BUILD = {"g++": "g++", "xz": "xz-utils"} | {
    name: name for name in ("bc", "bison", "flex", "make", "patch", "perl")
}


def missing(*, nodes: bool) -> list[str]:
    """The Debian packages yet to be installed for a lab with or without real nodes."""
    return _missing(_CONTROL_PLANE | (_NODE | _FABRIC if nodes else {}))


def ensure(*, nodes: bool) -> None:
    """Install what is missing with apt-get, saying so; LabError if that cannot be done."""
    _ensure(_CONTROL_PLANE | (_NODE | _FABRIC if nodes else {}))


def ensure_fabric() -> None:
    """As `ensure`, for the fabric alone: no clusters, only network namespaces."""
    _ensure(_CONTROL_PLANE | _FABRIC)


def ensure_guest() -> None:
    """As `ensure`, for guests with a kernel of their own."""
    _ensure(_GUEST)


def ensure_emulator() -> None:
    """As `ensure`, for guests on a machine that is emulated."""
    _ensure(_EMULATOR)


def ensure_kernel_build() -> None:
    """As `ensure`, for what builds a kernel."""
    _ensure(_KERNEL_BUILD)


def _missing(wanted: Mapping[str, str]) -> list[str]:
    return sorted({package for program, package in wanted.items() if not _present(program)})


def _ensure(wanted: Mapping[str, str]) -> None:
    if not _missing(wanted):
        return
    with locks.hold("apt", waiting="another process installs Debian packages, waiting"):
        packages = _missing(wanted)
        if not packages:
            return
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            raise LabError(f"install these packages first (or run as root on Debian): {' '.join(packages)}")
        env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        with long_step(f"installing Debian packages: {' '.join(packages)}"), _no_service_starts():
            run(["apt-get", "-qq", "update"], env=env, timeout=300)
            run(["apt-get", "-qq", "install", "-y", "--no-install-recommends", *packages], env=env, timeout=900)
        if still := _missing(wanted):
            raise LabError(f"installed, yet still missing: {' '.join(still)}")


def _present(program: str) -> bool:
    # /usr/sbin is not on every PATH that finds Python.
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    return found is not None


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Keep apt from starting containerd's own service: policy-rc.d while it installs (Debian policy 9.3.3)."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)
