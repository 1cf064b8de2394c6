"""Getting hold of the bare transports under an HTTP request and under an upgrade to the provider."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

if TYPE_CHECKING:
    from kube.client import Upgrade


class AlreadyAnswered(web.StreamResponse):
    """What a handler returns when it has written its answer to the transport itself: aiohttp writes nothing more."""

    def __init__(self) -> None:
        super().__init__(status=101)

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Nothing to send."""
        self.force_close()
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing to send."""


async def drain_reader(upgrade: Upgrade) -> tuple[asyncio.Transport, bytes]:
    """The transport of an upgraded connection, paused, and what its stream reader had already read.

    The transport must be given another protocol before it is resumed.
    """
    transport = cast(Any, upgrade.writer.transport)
    transport.pause_reading()
    upgrade.reader.feed_eof()
    early = await upgrade.reader.read()
    # Emptying the reader's buffer may have made it resume the transport.
    transport.pause_reading()
    return transport, early
