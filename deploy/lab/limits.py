"""The one kernel limit that several clusters on one machine run into: inotify instances per user, 128 as shipped.

An API server holds six, as does a kubelet, so the limit is three clusters away. It is raised while labs stand and
set back when the last one goes.
"""

from __future__ import annotations

from pathlib import Path

from deploy.lab.console import say

_FILE = Path("/proc/sys/fs/inotify/max_user_instances")
_NEEDED = 4096


def raise_limits(record: Path) -> None:
    """Raise what is too low, noting the former value in `record`."""
    former = int(_FILE.read_text())
    if former >= _NEEDED:
        return
    say(f"raising fs.inotify.max_user_instances from {former} to {_NEEDED} until the last lab is down")
    record.write_text(str(former))
    _FILE.write_text(str(_NEEDED))


def restore_limits(record: Path) -> None:
    """Set back what was raised."""
    if record.exists():
        _FILE.write_text(record.read_text())
        record.unlink()
