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
from deploy.lab.guest import image, machines, uml
from deploy.lab.guest.image import EXIT
from deploy.lab.guest.machines import Boot, Machine

_TAIL = 40


def ensure() -> None:
    """Have what guests of all machines boot: who waits for one should not wait for its kernel."""
    packages.ensure_guest()
    packages.ensure_emulator()
    image.base()
    uml.kernel()


def run(
    command: Sequence[str],
    *,
    timeout: float,
    machine: Machine = Machine.QEMU,
    memory: int = 2048,
    tell: Callable[[str], None] = lambda _: None,
) -> int:
    """Run `command` as root in a copy of the checkout in the guest; its exit code.

    `memory` is in MiB. `tell` gets each line of output as it comes. LabError with the last words if the guest ends
    before the command does, or if that takes more than `timeout` seconds.
    """
    packages.ensure_guest()
    base = image.base()
    with userland.temporary_folder("guest") as folder:
        boot = Boot(initramfs=folder / "initramfs", memory=memory, folder=folder)
        command_line = machines.command(machine, boot)
        upper = folder / "upper.cpio"
        image.checkout(command, upper)
        # Linux wants each archive to begin at a multiple of four bytes; cpio pads to 512.
        with boot.initramfs.open("wb") as target:
            for part in (base.initramfs, upper):
                with part.open("rb") as source:
                    shutil.copyfileobj(source, target)
        return _run(command_line, boot.console, timeout, tell)


def _run(command: list[str], console: Path, timeout: float, tell: Callable[[str], None]) -> int:
    last: deque[str] = deque(maxlen=_TAIL)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as guest:
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            guest.kill()

        watchdog = threading.Timer(timeout, expire)
        watchdog.start()
        try:
            assert guest.stdout is not None
            for raw in guest.stdout:
                line = raw.decode(errors="replace").rstrip("\r\n")
                if line.startswith(EXIT):
                    return int(line.removeprefix(EXIT))
                last.append(line)
                tell(line)
        finally:
            watchdog.cancel()
            guest.kill()
    words = "\n".join([*last, *_kernel_words(console)])
    raise LabError(
        f"the guest {f'did not end within {timeout:.0f} s' if expired.is_set() else 'ended early'}:\n{words}"
    )


def _kernel_words(console: Path) -> list[str]:
    return console.read_text(errors="replace").splitlines()[-_TAIL:] if console.exists() else []
