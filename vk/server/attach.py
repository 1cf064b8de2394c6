"""attach: join the streams of a container's own process."""

from __future__ import annotations

from aiohttp import web

from vk.server import streams
from vk.server.context import Context
from vk.server.options import ExecOptions, parse_query
from vk.server.paths import Target


async def handle(context: Context, request: web.BaseRequest, target: Target) -> web.StreamResponse:
    """GET or POST /attach/{namespace}/{pod}[/{uid}]/{container}?input=1&output=1&error=1&tty=1."""
    options = ExecOptions.parse(parse_query(target.query), command=False)
    pod = streams.locate_container(context, target)
    stream = streams.Stream("attach", options.params(container=target.container))
    return await streams.serve(context, request, target, pod=pod, stream=stream)
