"""The common part of exec, attach and port-forward: upgrade at the provider, then splice.

The remote request is made anew: path and query from validated names and options, and of the caller's headers only those
that negotiate the stream. Credentials, forwarding and impersonation headers never travel. Of the provider's answer,
too, only the negotiation goes back. After anything but a 101 the connection is closed, so that nothing a caller sends
behind a refused upgrade can reach the provider; redirects are not followed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from kube.errors import ApiError, KubeError
from kube.resources import PODS
from vk.server import connection, handover, splice
from vk.server.context import Context
from vk.server.errors import RequestError, read_status, write_status
from vk.server.interfaces import LocatedPod, PodNotFoundError, RemotePod
from vk.server.options import Params
from vk.server.paths import Target

if TYPE_CHECKING:
    from kube.client import Upgrade

log = structlog.get_logger(__name__)

MAX_ERROR_BODY: Final = 65_536
"""Bytes of a refused upgrade's body that are read."""

_PROTOCOLS: Final = {"spdy/3.1": "SPDY/3.1", "websocket": "websocket"}
_TO_PROVIDER: Final = (
    "X-Stream-Protocol-Version",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Protocol",
)
_TO_CALLER: Final = {
    name.lower(): name
    for name in ("X-Stream-Protocol-Version", "Sec-WebSocket-Accept", "Sec-WebSocket-Protocol", "Sec-WebSocket-Version")
}
_MAX_NEGOTIATION: Final = 32

Headers = list[tuple[str, str]]


@dataclasses.dataclass(frozen=True, slots=True)
class Stream:
    """A stream to open at the provider."""

    subresource: str
    params: Params


def requested_protocol(request: web.BaseRequest) -> str:
    """`SPDY/3.1` or `websocket`; RequestError(400) if the request is no upgrade to one of them."""
    connection = {part.strip().lower() for line in request.headers.getall("Connection", ()) for part in line.split(",")}
    protocol = _PROTOCOLS.get(request.headers.get("Upgrade", "").strip().lower())
    if "upgrade" not in connection or protocol is None:
        raise RequestError(400, "Upgrade request required")
    if request.body_exists:
        raise RequestError(400, "a request to upgrade has no body")
    return protocol


def locate_container(context: Context, target: Target) -> LocatedPod:
    """The pod of a request that names a container; RequestError(404) if there is no such pod or container."""
    pod = locate_pod(context, target)
    if target.container not in pod.containers:
        raise RequestError(404, f'container not found ("{target.container}")')
    return pod


def locate_pod(context: Context, target: Target) -> LocatedPod:
    """The pod of a request, by name and, if the path has one, UID; RequestError(404) if it is not on this node."""
    try:
        return context.locator.locate(target.namespace, target.pod, uid=target.uid or None)
    except PodNotFoundError:
        raise RequestError(404, "pod does not exist") from None


def remote_of(pod: LocatedPod) -> RemotePod:
    """The remote pod that runs `pod`; RequestError(404) while there is none."""
    if pod.remote is None or pod.remote.origin_uid != pod.uid:
        raise RequestError(404, f'pod not found ("{pod.name}_{pod.namespace}"): it has not been started yet')
    return pod.remote


def recheck(context: Context, pod: LocatedPod) -> RemotePod:
    """The remote pod if name and UID still mean the same pods, here and there; RequestError(404) if they don't.

    Remote requests go by name. Between a caller's being let in and the dial the pod may have been replaced by another
    of its name.
    """
    try:
        now = context.locator.locate(pod.namespace, pod.name, uid=pod.uid)
    except PodNotFoundError:
        raise RequestError(404, "pod not found") from None
    remote = remote_of(now)
    if pod.remote is not None and remote.uid != pod.remote.uid:
        raise RequestError(404, "pod not found")
    return remote


async def serve(
    context: Context, request: web.BaseRequest, target: Target, *, pod: LocatedPod, stream: Stream
) -> web.StreamResponse:
    """Open the stream at the provider and carry it until it ends."""
    protocol = requested_protocol(request)
    remote = recheck(context, pod)
    path = PODS.path(namespace=remote.namespace, name=remote.name, subresource=stream.subresource)
    try:
        upgrade = await context.provider.upgrade(
            request.method, path, params=stream.params, headers=_negotiation(request, protocol)
        )
    except ApiError as error:
        raise RequestError(error.status if error.status >= 400 else 502, error.message) from error
    except (KubeError, TimeoutError) as error:
        log.warning("provider not reached for a stream", route=target.route.name, error=type(error).__name__)
        raise RequestError(502, "the provider cluster's API server can't be reached") from error
    try:
        if upgrade.status != 101:
            return await _refusal(upgrade, protocol=protocol)
        recheck(context, pod)
        return await _carry(context, request, target, upgrade=upgrade, protocol=protocol)
    finally:
        # Nothing is wanted any more, and a provider that goes on sending could put an orderly end off.
        upgrade.writer.transport.abort()
        await upgrade.aclose()


def _negotiation(request: web.BaseRequest, protocol: str) -> Headers:
    """The headers of the remote request besides our credentials; each line stays a line of its own."""
    headers: Headers = [("Connection", "Upgrade"), ("Upgrade", protocol)]
    for name in _TO_PROVIDER:
        headers += [(name, value) for value in request.headers.getall(name, ())]
    if len(headers) > _MAX_NEGOTIATION or not all(v.isascii() and v.isprintable() for _, v in headers):
        raise RequestError(400, "the stream's negotiation is malformed")
    return headers


def _greeting(headers: Sequence[tuple[str, str]], *, protocol: str) -> bytes:
    """The head of our 101, from the provider's; RequestError(502) if it switched to something else."""
    switched = [value.strip().lower() for name, value in headers if name.lower() == "upgrade"]
    if switched != [protocol.lower()]:
        raise RequestError(502, "the provider switched to a protocol that was not asked for")
    lines = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", f"Upgrade: {protocol}"]
    lines += [f"{_TO_CALLER[name.lower()]}: {value}" for name, value in headers if name.lower() in _TO_CALLER]
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


async def _refusal(upgrade: Upgrade, *, protocol: str) -> web.Response:
    """What becomes of an answer that is not 101."""
    if upgrade.status < 200 or 300 <= upgrade.status < 400:
        log.warning("provider answered a stream with a redirect", status=upgrade.status)
        raise RequestError(502, "the provider answered with a redirect, which is not followed")
    if upgrade.status == 401:
        log.error("provider refused our credentials")
        raise RequestError(502, "the provider cluster refused the credentials of this virtual node")
    body = await upgrade.read_body(MAX_ERROR_BODY)
    message, reason = read_status(body)
    status = write_status(code=upgrade.status, message=message, reason=reason)
    response = web.Response(status=upgrade.status, body=status, content_type="application/json")
    response.force_close()
    return response


async def _carry(
    context: Context, request: web.BaseRequest, target: Target, *, upgrade: Upgrade, protocol: str
) -> web.StreamResponse:
    greeting = _greeting(upgrade.headers, protocol=protocol)
    route = target.route.name
    counters = splice.Counters(
        inbound=context.instruments.bytes.labels(route, "in").inc,
        outbound=context.instruments.bytes.labels(route, "out").inc,
    )
    provider, early = await handover.drain_reader(upgrade)
    caller, link = request.transport, connection.of(request)
    if caller is None or link is None or caller.is_closing():
        raise ConnectionResetError("the caller is gone")
    caller.pause_reading()
    link.taken_over()
    with context.instruments.streams.labels(route).track_inprogress():
        await splice.run(
            caller,
            provider,
            tcp=link.tcp,
            greeting=greeting,
            early=early,
            counters=counters,
            idle_timeout=context.stream_idle_timeout,
        )
    return handover.AlreadyAnswered()
