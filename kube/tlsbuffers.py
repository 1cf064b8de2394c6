"""Small read buffers for TLS connections that seldom read much.

asyncio gives every TLS connection a buffer of 256 KiB for its whole life (sslproto.SSLProtocol.max_size). A virtual
kubelet keeps a dozen watches open for each namespace that is offloaded, which say something now and then: with a
hundred namespaces these buffers alone were 350 MB. There is no public switch.
"""

from __future__ import annotations

from asyncio import sslproto
from typing import Final

SMALL: Final = 16 * 1024
"""Bytes; a TLS record carries no more (RFC 8446, 5.1)."""
LARGE: Final = sslproto.SSLProtocol.max_size


class GrowingProtocol(sslproto.SSLProtocol):
    """Begins small, and is as large as asyncio's own from when a read fills the buffer: a stream gets on as fast."""

    max_size = SMALL

    def buffer_updated(self, nbytes: int) -> None:
        """See `asyncio.BufferedProtocol`."""
        if nbytes >= SMALL:
            self.max_size = LARGE  # type: ignore[misc]  # of this connection, from its next read on
        super().buffer_updated(nbytes)


def install() -> None:
    """Have all connections of this process made like that from now on."""
    sslproto.SSLProtocol = GrowingProtocol  # type: ignore[misc]  # asyncio looks it up by this name
