"""`/healthz`, `/readyz` and `/metrics` on a port of their own, without authentication: bind it where that is fine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import prometheus_client
from aiohttp import web


class HealthServer:
    """Serves until cancelled; `ready` returns once it listens."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        is_ready: Callable[[], bool],
        registry: prometheus_client.CollectorRegistry,
    ) -> None:
        self._host = host
        self._port = port
        self._is_ready = is_ready
        self._registry = registry
        self._listening = asyncio.Event()

    async def ready(self) -> None:
        """Wait until connections are accepted."""
        await self._listening.wait()

    async def run(self) -> None:
        """Serve for ever. Raises OSError if the port is taken."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
            self._listening.set()
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _readyz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok") if self._is_ready() else web.Response(status=503, text="starting or stopping")

    async def _metrics(self, _request: web.Request) -> web.Response:
        body = prometheus_client.generate_latest(self._registry)
        return web.Response(body=body, headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})
