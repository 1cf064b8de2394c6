"""run: a command's output as the answer's body, for old tools that speak no stream protocol.

Done by an exec over WebSocket at the provider, without stdin. As with a kubelet, stdout comes before stderr, and a
command that fails makes a 500 whose text says how.
"""

from __future__ import annotations

import base64
import dataclasses
import os
from typing import TYPE_CHECKING, Final

import msgspec
import structlog
from aiohttp import web

from kube.errors import ApiError, KubeError
from kube.resources import PODS
from vk.server import channels, streams
from vk.server.context import Context
from vk.server.errors import RequestError, printable, read_status
from vk.server.options import ExecOptions, parse_query
from vk.server.paths import Target

if TYPE_CHECKING:
    from kube.client import Upgrade

log = structlog.get_logger(__name__)

MAX_OUTPUT: Final = 16 * 1024 * 1024
"""Bytes of output that are taken; a command that writes more is cut off with an error."""
_READ: Final = 64 * 1024


class _Cause(msgspec.Struct):
    reason: str = ""
    message: str = ""


class _Details(msgspec.Struct):
    causes: list[_Cause] = []


class _Outcome(msgspec.Struct):
    """The metav1.Status at the end of an exec."""

    status: str = ""
    message: str = ""
    reason: str = ""
    details: _Details = msgspec.field(default_factory=_Details)


@dataclasses.dataclass(slots=True)
class _Output:
    stdout: bytearray = dataclasses.field(default_factory=bytearray)
    stderr: bytearray = dataclasses.field(default_factory=bytearray)
    status: bytearray = dataclasses.field(default_factory=bytearray)

    def take(self, channel: int, data: bytes) -> None:
        kinds = {channels.STDOUT: self.stdout, channels.STDERR: self.stderr, channels.STATUS: self.status}
        if channel in kinds:
            kinds[channel] += data
        if len(self.stdout) + len(self.stderr) + len(self.status) > MAX_OUTPUT:
            raise RequestError(500, f"the command wrote more than {MAX_OUTPUT} bytes")


async def handle(context: Context, request: web.BaseRequest, target: Target) -> web.StreamResponse:
    """POST /run/{namespace}/{pod}[/{uid}]/{container}?cmd=<words separated by spaces>."""
    query = parse_query(target.query)
    command = tuple(query.get("cmd", [""])[0].split(" "))
    pod = streams.locate_container(context, target)
    remote = streams.recheck(context, pod)
    options = ExecOptions(stdin=False, stdout=True, stderr=True, tty=False, command=command)
    path = PODS.path(namespace=remote.namespace, name=remote.name, subresource="exec")
    try:
        upgrade = await context.provider.upgrade(
            "GET", path, params=options.params(container=target.container), headers=_negotiation()
        )
    except ApiError as error:
        raise RequestError(error.status if error.status >= 400 else 502, error.message) from error
    except (KubeError, TimeoutError) as error:
        raise RequestError(502, "the provider cluster's API server can't be reached") from error
    try:
        output = await _collect(upgrade)
    finally:
        upgrade.writer.transport.abort()
        await upgrade.aclose()
    _check(output, command=command)
    context.instruments.bytes.labels("run", "out").inc(len(output.stdout) + len(output.stderr))
    return web.Response(body=bytes(output.stdout + output.stderr), content_type="application/json")


def _negotiation() -> list[tuple[str, str]]:
    return [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", base64.b64encode(os.urandom(16)).decode()),
        ("Sec-WebSocket-Protocol", channels.PROTOCOLS),
    ]


async def _collect(upgrade: Upgrade) -> _Output:
    """All output until the provider closes; RequestError for a refused upgrade or nonsense."""
    if upgrade.status != 101:
        if upgrade.status < 400 or upgrade.status == 401:
            raise RequestError(502, f"the provider cluster answered with code {upgrade.status}")
        message, _ = read_status(await upgrade.read_body(streams.MAX_ERROR_BODY))
        raise RequestError(upgrade.status, message)
    output, reader = _Output(), channels.ChannelReader()
    try:
        while not reader.closed and (data := await upgrade.reader.read(_READ)):
            for channel, part in reader.feed(data):
                output.take(channel, part)
        upgrade.writer.write(channels.closing_frame())
        await upgrade.writer.drain()
    except (channels.FramingError, OSError) as error:
        raise RequestError(502, "the provider cut the command's output off") from error
    return output


def _check(output: _Output, *, command: tuple[str, ...]) -> None:
    """RequestError(500) unless the command ended with success."""
    try:
        outcome = msgspec.json.decode(bytes(output.status), type=_Outcome)
    except msgspec.DecodeError:
        raise RequestError(500, "the command's outcome is unknown") from None
    if outcome.status == "Success":
        return
    codes = [cause.message for cause in outcome.details.causes if cause.reason == "ExitCode"]
    if codes:
        text = f"command '{' '.join(command)}' exited with {codes[0]}: {output.stderr.decode('utf-8', 'replace')}"
        raise RequestError(500, printable(text))
    raise RequestError(500, printable(outcome.message) or "the command failed")
