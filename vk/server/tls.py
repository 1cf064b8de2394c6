"""The server's TLS context, from files that others renew.

TLS 1.2 or newer, HTTP/1.1 only (streams are upgrades, which HTTP/2 has not). A client certificate is asked for, not
demanded: callers with a bearer token have none. One from an unknown CA, expired, or not meant for clients fails the
handshake. No session tickets: a resumed session would outlive a change of the client CA.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Files:
    """PEM files of the serving certificate (chain), its key, and the CAs of client certificates (None: tokens only)."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


def build_context(files: Files) -> ssl.SSLContext:
    """A server context from the files as they are now. Blocks on file reads; raises OSError or ssl.SSLError."""
    for path in (files.certificate, files.key, files.client_ca):
        if path is not None:
            # The ssl module does not say which file it could not open.
            path.open("rb").close()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(files.certificate, files.key)
    if files.client_ca is not None:
        context.load_verify_locations(files.client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


class ServingContext:
    """The context for new connections, replaced when a file changes; connections in use keep theirs."""

    def __init__(self, files: Files, *, interval: float = 5.0) -> None:
        self._files = files
        self._interval = interval
        self._context: ssl.SSLContext | None = None
        self._stamps: tuple[object, ...] = ()

    @property
    def current(self) -> ssl.SSLContext:
        """The newest context that could be loaded; `load` comes first."""
        if self._context is None:
            raise RuntimeError("the serving certificate has not been loaded yet")
        return self._context

    async def load(self) -> None:
        """Load now. Raises OSError or ssl.SSLError and keeps what was loaded before."""
        stamps = await asyncio.to_thread(self._read_stamps)
        self._context = await asyncio.to_thread(build_context, self._files)
        self._stamps = stamps

    async def run(self) -> None:
        """Look for changed files, for ever. Files that can't be used are reported and tried again."""
        while True:
            await asyncio.sleep(self._interval)
            if await asyncio.to_thread(self._read_stamps) == self._stamps:
                continue
            try:
                await self.load()
            except (OSError, ssl.SSLError) as error:
                log.warning("serving certificate not reloaded", error=str(error))
            else:
                log.info("serving certificate reloaded")

    def _read_stamps(self) -> tuple[object, ...]:
        """What changes when a file is replaced: by rename, by a symlink (as a mounted Secret) or in place."""
        paths = [self._files.certificate, self._files.key, self._files.client_ca]
        stamps: list[object] = []
        for path in paths:
            try:
                status = path.stat() if path is not None else None
            except OSError:
                status = None
            stamps.append(status and (status.st_ino, status.st_mtime_ns, status.st_size))
        return tuple(stamps)
