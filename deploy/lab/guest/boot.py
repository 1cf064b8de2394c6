"""Boots a guest, runs one command in it and hands out its words and exit code."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.lab import packages, userland
from deploy.lab.errors import LabError
from deploy.lab.guest import image
from deploy.lab.guest.image import EXIT

_KERNEL_LINE = "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off random.trust_cpu=on rdinit=/init"
_TAIL = 40
_TWO = ("-accel", "tcg,thread=multi", "-smp", "2")
_COUNTED = ("-accel", "tcg,thread=single", "-smp", "1", "-icount", "shift=0,sleep=off")


def run(
    command: Sequence[str],
    *,
    timeout: float,
    memory: int = 2048,
    counted: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> int:
    """Run `command` as root in a copy of the checkout in the guest; its exit code.

    `memory` is in MiB. `counted`: the guest has one processor and a clock that goes by its instructions, one a
    nanosecond, and leaps where there is nothing to do: what it measures does not depend on what else this machine does.
    `tell` gets each line of output as it comes. LabError with the last words if the guest ends before the command does,
    or if that takes more than `timeout` seconds.
    """
    packages.ensure_guest()
    base = image.base()
    with userland.temporary_folder("guest") as folder:
        initramfs = folder / "initramfs"
        upper = folder / "upper.cpio"
        image.checkout(command, upper)
        # Linux wants each archive to begin at a multiple of four bytes; cpio pads to 512.
        with initramfs.open("wb") as target:
            for part in (base.initramfs, upper):
                with part.open("rb") as source:
                    shutil.copyfileobj(source, target)
        console = folder / "console"
        qemu = _qemu(base.kernel, initramfs, memory, console=console, processor=_COUNTED if counted else _TWO)
        return _boot(qemu, console, timeout, tell)


def _qemu(kernel: Path, initramfs: Path, memory: int, *, console: Path, processor: Sequence[str]) -> list[str]:
    # Accelerated where that works, emulated elsewhere. The second serial line carries the command's output.
    # Preferred a little: what is emulated beside other work falls behind its own clocks.
    return [
        *("nice", "-n", "-7"),
        *("qemu-system-x86_64", "-cpu", "max", *processor, "-m", str(memory)),
        *("-nodefaults", "-no-reboot", "-display", "none", "-nic", "none"),
        *("-kernel", str(kernel), "-initrd", str(initramfs), "-append", _KERNEL_LINE),
        *("-serial", f"file:{console}", "-serial", "stdio"),
    ]


def _boot(command: list[str], console: Path, timeout: float, tell: Callable[[str], None]) -> int:
    last: deque[str] = deque(maxlen=_TAIL)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as qemu:
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            qemu.kill()

        watchdog = threading.Timer(timeout, expire)
        watchdog.start()
        try:
            assert qemu.stdout is not None
            for raw in qemu.stdout:
                line = raw.decode(errors="replace").rstrip("\r\n")
                if line.startswith(EXIT):
                    return int(line.removeprefix(EXIT))
                last.append(line)
                tell(line)
        finally:
            watchdog.cancel()
            qemu.kill()
    words = "\n".join([*last, *_kernel_words(console)])
    raise LabError(
        f"the guest {f'did not end within {timeout:.0f} s' if expired.is_set() else 'ended early'}:\n{words}"
    )


def _kernel_words(console: Path) -> list[str]:
    return console.read_text(errors="replace").splitlines()[-_TAIL:] if console.exists() else []
