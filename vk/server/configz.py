"""configz: the settings of this node in the shape of a KubeletConfiguration."""

from __future__ import annotations

import msgspec
from aiohttp import web

from vk.server.context import Context
from vk.server.paths import Target


async def handle(context: Context, request: web.BaseRequest, target: Target) -> web.StreamResponse:
    """GET /configz."""
    body = msgspec.json.encode({"kubeletconfig": context.configuration})
    return web.Response(body=body, content_type="application/json")
