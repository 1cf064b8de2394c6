"""What a guest runs on: for each the program that is it, with its options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from deploy.lab import packages
from deploy.lab.guest import image, uml

_KERNEL_LINE = ("quiet", "loglevel=3", "panic=-1", "random.trust_cpu=on", "rdinit=/init")
_TWO = ("-accel", "tcg,thread=multi", "-smp", "2")
_COUNTED = ("-accel", "tcg,thread=single", "-smp", "1", "-icount", "shift=0,sleep=off")
# Preferred a little: what is emulated beside other work falls behind its own clocks.
_PREFERRED = ("nice", "-n", "-7")
_MEMORY = 'mkdir "$1" && mount -t tmpfs -o mode=700,size={size}m guest "$1" && shift && exec "$@"'


class Machine(StrEnum):
    """A kind of machine."""

    QEMU = "qemu"
    """Debian's stock kernel on two processors, which are emulated."""
    COUNTED = "counted"
    """The same on one, with a clock that goes by its instructions, one a nanosecond, and leaps where there is nothing
    to do: what is measured there does not depend on what else this machine does."""
    UML = "uml"
    """Debian's kernel source as a program on one processor of this machine, at its speed; see `uml`."""


@dataclass(frozen=True, slots=True)
class Boot:
    """What is to be booted."""

    initramfs: Path
    memory: int
    """MiB."""
    folder: Path
    """For the machine's own files; it goes with it."""

    @property
    def console(self) -> Path:
        """Where the kernel's words are, unless they are among the command's."""
        return self.folder / "console"


def command(machine: Machine, boot: Boot) -> list[str]:
    """What boots it; its standard output is the guest's command's."""
    if machine is Machine.UML:
        return _user_mode(uml.kernel(), boot)
    packages.ensure_emulator()
    return _qemu(image.base().kernel, boot, _COUNTED if machine is Machine.COUNTED else _TWO)


def _qemu(kernel: Path, boot: Boot, processor: Sequence[str]) -> list[str]:
    # Accelerated where that works, emulated elsewhere. The second serial line carries the command's output.
    line = ("console=ttyS0", "mitigations=off", *_KERNEL_LINE)
    return [
        *_PREFERRED,
        *("qemu-system-x86_64", "-cpu", "max", *processor, "-m", str(boot.memory)),
        *("-nodefaults", "-no-reboot", "-display", "none", "-nic", "none"),
        *("-kernel", str(kernel), "-initrd", str(boot.initramfs), "-append", " ".join(line)),
        *("-serial", f"file:{boot.console}", "-serial", "stdio"),
    ]


def _user_mode(kernel: Path, boot: Boot) -> list[str]:
    # Each program of the guest is a process here, and all end with the first of their namespace, which ends with us.
    own = ["setpriv", "--pdeathsig=KILL", "unshare", "--pid", "--mount", "--fork", "--kill-child=KILL"]
    # The guest's memory is a file that programs are run from; /dev/shm may be small, or forbid that.
    memory = str(boot.folder / "memory")
    prepared = ["sh", "-c", _MEMORY.format(size=boot.memory + 64), "sh", memory, "env", f"TMPDIR={memory}"]
    # Two lines to the same place: the kernel polls each by its number.
    lines = ("con=null", "con0=null,fd:2", "ssl=null", "ssl1=null,fd:1")
    what = (f"mem={boot.memory}M", f"initrd={boot.initramfs}", f"uml_dir={boot.folder}")
    return [*_PREFERRED, *own, *prepared, str(kernel), *what, *lines, *_KERNEL_LINE]
