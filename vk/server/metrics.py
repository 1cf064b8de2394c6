"""metrics and metrics/resource: this process in Prometheus' text format, and what its pods use."""

from __future__ import annotations

import prometheus_client
from aiohttp import web

from vk.server import exposition
from vk.server.context import Context
from vk.server.paths import Target

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def handle(context: Context, request: web.BaseRequest, target: Target) -> web.StreamResponse:
    """GET /metrics: the process's own registry."""
    body = prometheus_client.generate_latest(context.registry)  # on the loop: gauges read what the loop changes
    return web.Response(body=body, headers={"Content-Type": _CONTENT_TYPE})


async def handle_resource(context: Context, request: web.BaseRequest, target: Target) -> web.StreamResponse:
    """GET /metrics/resource: what metrics-server reads."""
    body = exposition.resource_metrics(await context.usage.snapshot())
    return web.Response(body=body, headers={"Content-Type": _CONTENT_TYPE})
