"""What the agent keeps on disk between its runs: the last desired state, keys included, and the firewall's fingerprint.

With it an agent that starts while the controller is away goes on as before. Files are for their owner only and replaced
in one step, so a crash leaves the old one or the new one.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from netfabric.agent.tables import Fingerprint


class Memory:
    """Files in one folder, which is made for the owner only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._state = folder / "desired.pb"
        self._firewall = folder / "firewall.json"

    def load_state(self) -> bytes | None:
        """The last state's message, None if there is none."""
        return self._state.read_bytes() if self._state.exists() else None

    def save_state(self, message: bytes) -> None:
        """Keep a state's message. Raises OSError."""
        self._write(self._state, message)

    def load_firewall(self) -> Fingerprint:
        """The firewall's fingerprint; an empty one if there is none that can be read."""
        try:
            asked, listed = json.loads(self._firewall.read_text())
        except (OSError, ValueError):
            return Fingerprint()
        return Fingerprint(str(asked), str(listed))

    def save_firewall(self, fingerprint: Fingerprint) -> None:
        """Keep it. Raises OSError."""
        self._write(self._firewall, json.dumps([fingerprint.asked, fingerprint.listed]).encode())

    def forget(self) -> None:
        """Remove both."""
        for file in (self._state, self._firewall):
            file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    def _write(self, file: Path, content: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = file.with_suffix(".new")
        new.unlink(missing_ok=True)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        new.replace(file)
