"""What isthmus's own programs in the labs of this process wrote while a test ran: a failure seldom tells itself."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from deploy.lab import paths

_LINES = 60
_BYTES = 100_000


def sizes() -> dict[Path, int]:
    """How long the logs are now: of the hosts of labs named after this process (`deploy/lab/testing.py`)."""
    found: dict[Path, int] = {}
    for name in (f"test-{os.getpid()}", f"test-{os.getpid()}-*"):
        for log in paths.STATE.glob(f"{name}/hosts/*/*.log"):
            with contextlib.suppress(FileNotFoundError):  # a lab that is just being removed
                found[log] = log.stat().st_size
    return found


def written_since(before: dict[Path, int]) -> Iterator[tuple[str, str]]:
    """Host and program, and the end of what it wrote, for each that wrote something."""
    for log, size in sorted(sizes().items()):
        begin = before.get(log, 0)
        if size > begin:
            lines = _read(log, max(begin, size - _BYTES)).splitlines()
            yield f"{log.parent.name}/{log.stem}", "\n".join(lines[-_LINES:])


def _read(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        return file.read().decode(errors="replace")
