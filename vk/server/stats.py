"""stats/summary: what the pods use, as stats.k8s.io/v1alpha1 Summary."""

from __future__ import annotations

import msgspec
from aiohttp import web

from vk.server import exposition
from vk.server.context import Context
from vk.server.paths import Target


async def handle(context: Context, request: web.BaseRequest, target: Target) -> web.StreamResponse:
    """GET /stats/summary. `only_cpu_and_memory` is accepted; nothing else is known anyway."""
    summary = exposition.summary(await context.usage.snapshot(), node_name=context.node_name)
    return web.Response(body=msgspec.json.encode(summary), content_type="application/json")
