"""healthz: whether this server is alive and its node's loop makes progress."""

from __future__ import annotations

from aiohttp import web

from vk.server.context import Context
from vk.server.errors import RequestError
from vk.server.paths import Target

_CHECKS = ("ping", "log", "syncloop")


async def handle(context: Context, request: web.BaseRequest, target: Target) -> web.StreamResponse:
    """GET /healthz and /healthz/{ping,log,syncloop}."""
    check = target.check
    if check and check not in _CHECKS:
        raise RequestError(404, "404: Page Not Found")
    if check in ("", "syncloop") and not context.healthy():
        raise RequestError(500, "[-]syncloop failed: the pods of this node are not in step")
    return web.Response(text="ok", headers={"X-Content-Type-Options": "nosniff"})
