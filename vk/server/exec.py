"""exec: run a command in a container, its streams carried by SPDY or WebSocket."""

from __future__ import annotations

from aiohttp import web

from vk.server import streams
from vk.server.context import Context
from vk.server.options import ExecOptions, parse_query
from vk.server.paths import Target


async def handle(context: Context, request: web.BaseRequest, target: Target) -> web.StreamResponse:
    """GET or POST /exec/{namespace}/{pod}[/{uid}]/{container}?command=...&input=1&output=1&error=1&tty=1."""
    options = ExecOptions.parse(parse_query(target.query), command=True)
    pod = streams.locate_container(context, target)
    stream = streams.Stream("exec", options.params(container=target.container))
    return await streams.serve(context, request, target, pod=pod, stream=stream)
