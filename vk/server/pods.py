"""pods and runningpods: the pods of this node as a v1.PodList, put together from raw JSON without decoding it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aiohttp import web

from vk.server.context import Context
from vk.server.paths import Target

_HEAD = b'{"kind":"PodList","apiVersion":"v1","metadata":{},"items":['
_TAIL = b"]}\n"
_CHUNK = 256 * 1024


async def handle(context: Context, request: web.BaseRequest, target: Target) -> web.StreamResponse:
    """GET /pods: the consumer's pods bound to this node."""
    return await _answer(request, context.locator.pods())


async def handle_running(context: Context, request: web.BaseRequest, target: Target) -> web.StreamResponse:
    """GET /runningpods/: those that run at the provider and are not being deleted."""
    return await _answer(request, context.locator.running_pods())


async def _answer(request: web.BaseRequest, pods: Iterable[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    # The list is fixed now: the store behind it may change while a slow reader takes its time.
    for chunk in chunks(tuple(pods)):
        await response.write(chunk)
    await response.write_eof()
    return response


def chunks(pods: Iterable[bytes]) -> Iterator[bytes]:
    """The JSON of a PodList in pieces of moderate size."""
    pending, size, separator = [_HEAD], 0, b""
    for pod in pods:
        pending += [separator, pod]
        separator = b","
        size += len(pod)
        if size >= _CHUNK:
            yield b"".join(pending)
            pending, size = [], 0
    yield b"".join([*pending, _TAIL])
