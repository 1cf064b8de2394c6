"""What a guest boots: Debian's kernel, and an initramfs that is its whole root.

The initramfs is two archives in a row, which Linux unpacks one over the other: the lower one (userland, modules, Python
packages) is made once and cached by what decides its content; the upper one is the checkout and what is to be run, made
for each boot. No disk, so no driver is needed before the first program runs.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.lab import locks, paths, userland
from deploy.lab.console import long_step, run
from deploy.lab.userland import PYTHON, PYTHON_PACKAGES

EXIT = "guest-exit:"
"""The guest's last line begins so; the command's exit code follows."""
_TOOLS = (
    *("busybox-static", "conntrack", "coreutils", "dash", "ethtool", "grep", "iproute2", "iputils-ping", "kmod"),
    *("netbase", "nftables", "python3.11", "sed", "util-linux", "wireguard-go", "wireguard-tools"),
    *("libacl1", "libatomic1", "libattr1", "libblkid1", "libbpf1", "libbsd0", "libcap-ng0", "libcap2", "libcap2-bin"),
    *("libcom-err2", "libdb5.3", "libedit2", "libelf1", "libgcrypt20", "libgmp10", "libgpg-error0", "libgssapi-krb5-2"),
    *("libidn2-0", "libjansson4", "libk5crypto3", "libkeyutils1", "libkmod2", "libkrb5-3", "libkrb5support0"),
    *("liblz4-1", "libmd0", "libmnl0", "libmount1", "libncursesw6", "libnetfilter-conntrack3", "libnfnetlink0"),
    *("libnftables1", "libnftnl11", "libnsl2", "libpcre2-8-0", "libreadline8", "libselinux1", "libsmartcols1"),
    *("libsqlite3-0", "libstdc++6", "libsystemd0", "libtinfo6", "libtirpc3", "libudev1", "libunistring2"),
    *("libxtables12", "libzstd1"),
)
"""What the tests and the agent run, and what that links to."""
_MODULES = ("arch/x86/crypto", "crypto", "drivers/net", "lib", "net")
"""Folders of kernel modules that the network is made of; of drivers/net only what lies in it or in a virtual one."""
_VIRTUAL_DRIVERS = ("bonding", "ipvlan", "macvlan", "vxlan", "wireguard")
_TESTS = ("pytest>=9", "pytest-asyncio>=1.2", "pytest-timeout", "pytest-xdist", "hypothesis", "trustme")
_LIBRARIES = "opt/isthmus/lib"
CODE = "opt/isthmus/app"
_PROGRAMS = ("api", "deploy", "isthmus", "kube", "netfabric", "tests/lab/fabric")
"""What of the checkout programs of the guest import: compiled for it."""
_INIT = f"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /run /tmp /root /var/lib /var/run
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mkdir -p /dev/pts /dev/net
/bin/busybox ln -s /proc/self/fd /dev/fd
/bin/busybox ln -s fd/0 /dev/stdin
/bin/busybox ln -s fd/1 /dev/stdout
/bin/busybox ln -s fd/2 /dev/stderr
/bin/busybox mount -t devpts devpts /dev/pts
/bin/busybox mount -t tmpfs tmpfs /run
/bin/busybox mount -t tmpfs tmpfs /tmp
/bin/busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
export PYTHONPATH=/{CODE}:/{_LIBRARIES} PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
cd /{CODE}
stty -F /dev/ttyS1 raw -echo
hostname guest
ip link set lo up
sh /guest-command </dev/null >/dev/ttyS1 2>&1
echo "{EXIT}$?" >/dev/ttyS1
sync
/bin/busybox poweroff -f
"""


@dataclass(frozen=True, slots=True)
class Base:
    """The cached part of a guest."""

    kernel: Path
    initramfs: Path


def base() -> Base:
    """Debian's newest kernel of this release with a userland; made once, about a minute."""
    with locks.hold("guest-base", waiting="another process builds the guest's root, waiting"):
        key = _key()
        made = Base(paths.cache() / f"guest-{key}.vmlinuz", paths.cache() / f"guest-{key}.cpio")
        if not made.initramfs.exists():
            userland.forget("guest-*.vmlinuz")
            userland.forget("guest-*.cpio")
            with long_step("building the guest's root, once, a minute"), userland.temporary_folder("guest") as folder:
                _build(made, folder)
        for file in (made.kernel, made.initramfs):
            file.touch()  # in use: see userland.forget
        return made


def checkout(command: Sequence[str], target: Path) -> None:
    """The upper archive: the checkout's code and tests, and the command that the guest runs in it."""
    with userland.temporary_folder("guest") as folder:
        root = folder / "root"
        code = root / CODE
        code.mkdir(parents=True)
        tracked = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=paths.ROOT)
        for name in filter(None, tracked.split("\0")):
            if (source := paths.ROOT / name).is_file():
                (code / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, code / name)
        _compile(root, code)
        name, metadata = userland.package_metadata()
        (code / name).parent.mkdir()
        (code / name).write_bytes(metadata)
        program = root / "usr/bin/isthmus"
        program.parent.mkdir(parents=True)
        program.write_text(f'#!/bin/sh\nexec python{PYTHON} -m isthmus "$@"\n')
        program.chmod(0o755)
        (root / "guest-command").write_text(shlex.join(command) + "\n")
        _pack(root, target)


def _compile(root: Path, code: Path) -> None:
    """Every program that is started would compile them anew, on an emulated processor."""
    if f"{sys.version_info.major}.{sys.version_info.minor}" != PYTHON:
        return  # what another version makes is not read
    compile_all = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode=unchecked-hash", "-s", str(root)]
    run([*compile_all, "-p", "/", *(code / name for name in _PROGRAMS)], timeout=300)


def _key() -> str:
    digest = hashlib.sha256(" ".join((_kernel_package(), *_TOOLS, *userland.requirements())).encode())
    for file in (paths.ROOT / "constraints.txt", Path(__file__), Path(userland.__file__), Path("/etc/debian_version")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _kernel_package() -> str:
    """The package that Debian's `linux-image-amd64` stands for now."""
    userland.know_debian()
    shown = run(["apt-cache", "depends", "--important", "linux-image-amd64"])
    found = re.search(r"Depends: (linux-image-\S+)", shown)
    return found[1] if found else "linux-image-amd64"


def _build(target: Base, folder: Path) -> None:
    root = folder / "root"
    userland.unpack_debian((*PYTHON_PACKAGES, *_TOOLS), folder=folder, root=root)
    userland.install_python_packages(root / _LIBRARIES, [*userland.requirements(), *_TESTS])
    _finish(root)
    kernel = folder / "kernel"
    userland.unpack_debian([_kernel_package()], folder=folder / "image", root=kernel)
    _install_modules(kernel, root)
    userland.compile_python(root, [f"/usr/lib/python{PYTHON}", f"/{_LIBRARIES}"])
    initramfs = folder / "root.cpio"
    _pack(root, initramfs)
    shutil.move(next((kernel / "boot").glob("vmlinuz-*")), target.kernel)
    shutil.move(initramfs, target.initramfs)


def _finish(root: Path) -> None:
    """What the packages' scripts would have done."""
    init = root / "init"
    init.write_text(_INIT)
    init.chmod(0o755)
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost guest\n::1 localhost\n")
    python = root / "usr/bin/python3"
    python.unlink(missing_ok=True)
    python.symlink_to(f"python{PYTHON}")
    for applet in run([root / "bin/busybox", "--list"]).split():
        found = [root / folder / applet for folder in ("bin", "sbin", "usr/bin", "usr/sbin")]
        if not any(path.is_symlink() or path.exists() for path in found):
            (root / "bin" / applet).symlink_to("busybox")


def _install_modules(kernel: Path, root: Path) -> None:
    release = next((kernel / "lib/modules").iterdir())
    target = root / "lib/modules" / release.name
    for folder in _MODULES:
        for module in (release / "kernel" / folder).rglob("*.ko"):
            inside = module.relative_to(release / "kernel")
            if folder != "drivers/net" or len(inside.parts) == 3 or inside.parts[2] in _VIRTUAL_DRIVERS:
                (target / "kernel" / inside).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(module, target / "kernel" / inside)
    for listing in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        shutil.copy(release / listing, target / listing)
    run(["chroot", root, "/sbin/depmod", release.name])


def _pack(root: Path, target: Path) -> None:
    """A cpio archive in the form that Linux unpacks (Documentation/driver-api/early-userspace/buffer-format)."""
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    run(
        ["cpio", "--quiet", "--create", "--format=newc", "--owner=0:0", f"--file={target}"],
        cwd=root,
        stdin=names + "\n",
        timeout=300,
    )
