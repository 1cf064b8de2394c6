"""containerLogs: a container's log, as it is or as it grows.

Errors are plain text: the API server puts what it reads into a Status of its own. Bytes are passed on as they come, at
the speed of the reader, with no limit on silence: a follower may wait for hours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from kube.errors import ApiError, KubeError
from kube.resources import PODS
from vk.server import connection, stalls, streams
from vk.server.context import Context
from vk.server.errors import RequestError, read_status
from vk.server.interfaces import LocatedPod, PodNotFoundError
from vk.server.options import LogOptions, parse_query
from vk.server.paths import Target

if TYPE_CHECKING:
    from kube.client import StreamedResponse

log = structlog.get_logger(__name__)

_MAX_ERROR = 65_536


async def handle(context: Context, request: web.BaseRequest, target: Target) -> web.StreamResponse:
    """GET /containerLogs/{namespace}/{pod}/{container}?follow=&previous=&tailLines=&..."""
    options = LogOptions.parse(parse_query(target.query))
    pod = _locate(context, target)
    if pod.remote is None:
        raise RequestError(
            400, f'container "{target.container}" in pod "{target.pod}" is waiting to start: ContainerCreating'
        )
    remote = streams.recheck(context, pod)
    path = PODS.path(namespace=remote.namespace, name=remote.name, subresource="log")
    try:
        async with context.provider.stream("GET", path, params=options.params(container=target.container)) as answer:
            if answer.status != 200:
                raise await _refusal(answer)
            return await _copy(context, request, answer, limit=options.limit_bytes)
    except ApiError as error:
        raise RequestError(error.status if error.status >= 400 else 502, error.message) from error
    except (KubeError, TimeoutError) as error:
        log.warning("log stream failed", pod=target.pod, namespace=target.namespace, error=type(error).__name__)
        raise RequestError(502, "the provider cluster's API server can't be reached") from error


def _locate(context: Context, target: Target) -> LocatedPod:
    try:
        pod = context.locator.locate(target.namespace, target.pod)
    except PodNotFoundError:
        raise RequestError(404, f'pod "{target.pod}" does not exist') from None
    if target.container not in pod.containers:
        raise RequestError(404, f'container "{target.container}" not found in pod "{target.pod}"')
    return pod


async def _refusal(answer: StreamedResponse) -> RequestError:
    """The provider's error in plain text, code kept; a redirect or refused credentials are not the caller's fault."""
    if answer.status < 400 or answer.status == 401:
        log.error("provider refused a log request", status=answer.status)
        return RequestError(502, f"the provider cluster answered with code {answer.status}")
    message, _ = read_status(await answer.read(_MAX_ERROR))
    return RequestError(answer.status, message)


async def _copy(
    context: Context, request: web.BaseRequest, answer: StreamedResponse, *, limit: int | None
) -> web.StreamResponse:
    """Pass the log on. If the provider fails in the middle, the answer is cut off, so that the reader knows."""
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    carried = context.instruments.bytes.labels("containerLogs", "out")
    link = connection.of(request)
    reader = (request.transport, link.tcp) if request.transport is not None and link is not None else ()
    with context.instruments.streams.labels("containerLogs").track_inprogress(), stalls.borne(*reader[1:]):
        try:
            async for chunk in answer.iter_any():
                data = chunk if limit is None else chunk[:limit]
                await response.write(data)
                carried.inc(len(data))
                if limit is not None:
                    limit -= len(data)
                    if limit <= 0:
                        break
        except KubeError as error:
            log.info("log stream cut off", error=type(error).__name__)
            if request.transport is not None:
                request.transport.abort()
            return response
        await response.write_eof()
        if reader:  # a pager has the end of the log when it gets there
            await stalls.taken(reader, gone=None, timeout=context.stream_idle_timeout)
    return response
