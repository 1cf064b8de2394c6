"""The CA of the kubelet API's callers as a file: the consumer's own, kept as it is now though it be exchanged.

The consumer's CA signs its API server's kubelet client certificate too, unless `--client-ca-file` says otherwise. The
server reads the file anew when it changes (`vk.server.tls`), so an old authority that is gone is refused from then on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from kube.errors import ConfigError

log = structlog.get_logger(__name__)

PERIOD = 10.0
"""Seconds between looks; mounted Secrets take up to a minute to change anyway."""


class AuthorityFile:
    """Copies what `read` gives, PEM, to `file`. `read` blocks; it may raise OSError or ConfigError."""

    def __init__(self, file: Path, read: Callable[[], bytes | None], *, period: float = PERIOD) -> None:
        self._file = file
        self._read = read
        self._period = period

    def write(self) -> bool:
        """Make the file right; whether there is an authority at all. Raises OSError or ConfigError."""
        wanted = self._read()
        if wanted is None:
            return False
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self._file.exists() or self._file.read_bytes() != wanted:
            fresh = self._file.with_suffix(".new")
            fresh.write_bytes(wanted)
            fresh.rename(self._file)  # never half a file, for who reads it at this moment
        return True

    async def run(self) -> None:
        """Keep it right, for ever; what cannot be read leaves it as it is."""
        while True:
            await asyncio.sleep(self._period)
            try:
                await asyncio.to_thread(self.write)
            except (OSError, ConfigError) as error:
                log.warning("authority of the kubelet API's callers not read", error=str(error))
