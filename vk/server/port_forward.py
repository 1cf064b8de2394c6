"""portForward: connections to ports of a pod, carried by SPDY or WebSocket."""

from __future__ import annotations

from aiohttp import web

from vk.server import streams
from vk.server.context import Context
from vk.server.options import parse_ports, parse_query
from vk.server.paths import Target


async def handle(context: Context, request: web.BaseRequest, target: Target) -> web.StreamResponse:
    """GET or POST /portForward/{namespace}/{pod}[/{uid}], with `port` in the query for WebSocket only."""
    websocket = streams.requested_protocol(request) == "websocket"
    params = parse_ports(parse_query(target.query), websocket=websocket)
    pod = streams.locate_pod(context, target)
    return await streams.serve(context, request, target, pod=pod, stream=streams.Stream("portforward", params))
