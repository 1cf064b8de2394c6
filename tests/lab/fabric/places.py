"""Network namespaces for a test: each held by a process of its own, with a private folder for WireGuard's sockets.

Nothing has a name outside: a namespace is gone with the processes in it, and `close` ends all of those. Addresses are
inside only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_HOLD = "mount -t tmpfs none /run/wireguard && echo ready && exec sleep infinity"


class Place:
    """A network namespace: a host, a router or a pod."""

    def __init__(self, name: str) -> None:
        self.name = name
        Path("/run/wireguard").mkdir(exist_ok=True)
        command = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", _HOLD]
        self._holder = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"
        self.ip("link set lo up")

    @property
    def pid(self) -> int:
        """Of the process that holds it."""
        return self._holder.pid

    def command(self, argv: Sequence[str | Path]) -> list[str]:
        """The command line that runs `argv` here."""
        return ["nsenter", f"--target={self.pid}", "--net", "--mount", "--", *(str(word) for word in argv)]

    def run(self, argv: Sequence[str | Path], *, check: bool = True, stdin: str = "", timeout: float = 20) -> str:
        """Run a short program here; its output."""
        made = subprocess.run(
            self.command(argv), input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and made.returncode:
            raise AssertionError(f"{self.name}: {argv}: {made.stdout}{made.stderr}")
        return made.stdout

    def succeeds(self, argv: Sequence[str | Path], *, timeout: float = 20) -> bool:
        """Whether a program ends well here."""
        try:
            made = subprocess.run(self.command(argv), capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            return False
        return made.returncode == 0

    def start(self, argv: Sequence[str | Path], *, log: Path | None = None) -> subprocess.Popen[str]:
        """Start a program here; without `log` its output is a pipe."""
        if log is None:
            return subprocess.Popen(self.command(argv), stdout=subprocess.PIPE, text=True)
        with log.open("ab") as file:
            return subprocess.Popen(self.command(argv), stdout=file, stderr=file, text=True)

    def ip(self, *commands: str) -> None:
        """Run commands of ip(8)."""
        self.run(["ip", "-batch", "-"], stdin="\n".join(commands) + "\n")

    def sysctl(self, **values: str) -> None:
        """Set switches by their path below /proc/sys/net with dots for slashes (`ipv4__ip_forward`)."""
        for name, value in values.items():
            self.run(["sh", "-c", f"echo {value} > /proc/sys/net/{name.replace('__', '/')}"])

    def forward(self) -> None:
        """Be a router."""
        self.sysctl(ipv4__ip_forward="1", ipv6__conf__all__forwarding="1")

    def processes(self) -> Iterator[int]:
        """Pids of all that runs here."""
        try:
            mine = os.readlink(f"/proc/{self.pid}/ns/net")
        except OSError:
            return
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if folder.name.isdigit() and os.readlink(folder / "ns/net") == mine:
                    yield int(folder.name)

    def close(self) -> None:
        """End everything here, and so the namespace."""
        for pid in [pid for pid in self.processes() if pid != self.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._holder.kill()
        self._holder.wait()
        assert self._holder.stdout is not None
        self._holder.stdout.close()


def join(one: Place, one_link: str, other: Place, other_link: str, *, mtu: int = 1500) -> None:
    """A cable between two places."""
    one.ip(
        f"link add {one_link} mtu {mtu} type veth peer name {other_link} mtu {mtu} netns {other.pid}",
        f"link set {one_link} up",
    )
    other.ip(f"link set {other_link} up")


def wait(condition: Callable[[], T], *, what: str, timeout: float = 15) -> T:
    """The condition's first true value, AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        if value := condition():
            return value
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.05)
