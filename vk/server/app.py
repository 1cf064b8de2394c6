"""The server: from an accepted connection to the verb that answers.

A request passes: who is it (401), is the path one that can be meant (400), may the caller (403), is there such a route
(404) and method (405), the verb. Whatever goes wrong in a verb becomes a plain answer; details go to the log only.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import http_parser, web

from vk.server import (
    attach,
    configz,
    connection,
    container_logs,
    exec,
    healthz,
    metrics,
    paths,
    pods,
    port_forward,
    run,
    stats,
)
from vk.server.admission import Admission
from vk.server.authentication import Authenticator, User
from vk.server.authorization import Authorizer
from vk.server.connection import Surroundings
from vk.server.context import Context, Handler
from vk.server.errors import RequestError
from vk.server.instruments import Instruments
from vk.server.listener import Listener, bind
from vk.server.tls import Files, ServingContext
from vk.server.usage import Usage

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from kube.client import Client
    from vk.server.interfaces import PodLocator, StatsSource

log = structlog.get_logger(__name__)

_HANDLERS: Final[Mapping[str, Handler]] = {
    "containerLogs": container_logs.handle,
    "exec": exec.handle,
    "attach": attach.handle,
    "portForward": port_forward.handle,
    "run": run.handle,
    "pods": pods.handle,
    "runningpods": pods.handle_running,
    "stats/summary": stats.handle,
    "metrics": metrics.handle,
    "metrics/resource": metrics.handle_resource,
    "healthz": healthz.handle,
    "configz": configz.handle,
}

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"})
_KEEPALIVE: Final = 90.0
_HEAD_OF_STRANGERS: Final = 32 * 1024
_HEAD_OF_CERTIFIED: Final = 1024 * 1024
_STOP_TIMEOUT: Final = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class ServerConfig:
    """Settings of a kubelet server."""

    node_name: str
    certificate_file: Path
    key_file: Path
    client_ca_file: Path | None = None
    """CAs of client certificates; None: callers need a bearer token."""
    host: str = "0.0.0.0"
    port: int = 10250
    debugging_handlers: bool = True
    """False takes logs, exec, attach, port-forward, run and runningpods away, as enableDebuggingHandlers does."""
    pod_selector: str = ""
    """Label selector of our pods at the provider, for metrics; by default `offloading.isthmus.dev/node=<node name>`."""
    pending_per_source: int = 64
    """Connections of one address whose caller is not known yet; the oldest gives way to a new one."""
    pending_total: int = 128
    """The same for all addresses together."""
    head_timeout: float = 10.0
    """Seconds a client has for a request's head."""
    handshake_timeout: float = 5.0
    """Seconds a client has for the TLS handshake."""
    stream_idle_timeout: float = 4 * 3600.0
    """Seconds after which a silent exec, attach or port-forward is cut, as streamingConnectionIdleTimeout."""
    reload_interval: float = 5.0
    """Seconds between looks at the certificate files."""


class KubeletServer:
    """The kubelet API of one virtual node. `run` serves until cancelled; `ready` returns once it listens."""

    def __init__(
        self,
        config: ServerConfig,
        *,
        locator: PodLocator,
        stats_source: StatsSource,
        consumer: Client,
        provider: Client,
        registry: CollectorRegistry,
        healthy: Callable[[], bool] = lambda: True,
    ) -> None:
        self._config = config
        self._instruments = Instruments(registry)
        self._authenticator = Authenticator(consumer)
        self._authorizer = Authorizer(consumer, node_name=config.node_name)
        selector = config.pod_selector or f"offloading.isthmus.dev/node={config.node_name}"
        self._context = Context(
            node_name=config.node_name,
            locator=locator,
            usage=Usage(stats_source, provider, label_selector=selector),
            provider=provider,
            instruments=self._instruments,
            registry=registry,
            healthy=healthy,
            configuration=_kubelet_configuration(config),
            stream_idle_timeout=config.stream_idle_timeout,
        )
        self._admission = Admission(
            per_source=config.pending_per_source, total=config.pending_total, on_drop=self._instruments.dropped.inc
        )
        self._instruments.pending.set_function(lambda: len(self._admission))
        self._tls = ServingContext(
            Files(config.certificate_file, config.key_file, config.client_ca_file), interval=config.reload_interval
        )
        self._ready = asyncio.Event()
        self.port = config.port
        """The port listened on; with 0 in the settings, known once `ready`."""

    async def ready(self) -> None:
        """Wait until connections are accepted."""
        await self._ready.wait()

    async def reload(self) -> None:
        """Use the certificate files as they are now for new connections. Raises OSError or ssl.SSLError."""
        await self._tls.load()

    async def run(self) -> None:
        """Serve until cancelled. Raises OSError if the port or the certificate can't be used.

        On the way out the port is closed first, then streams and requests are cut.
        """
        require_c_parser()
        await self._tls.load()
        listening = bind(self._config.host, self._config.port)
        self.port = listening.getsockname()[1]
        servers = {certified: self._http_server(certified=certified) for certified in (True, False)}
        surroundings = Surroundings(
            make_http=lambda certified: servers[certified](),
            admission=self._admission,
            head_timeout=self._config.head_timeout,
        )
        listener = Listener(
            listening,
            surroundings=surroundings,
            context=lambda: self._tls.current,
            handshake_timeout=self._config.handshake_timeout,
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(listener.run(), name="kubelet-accept")
                tasks.create_task(self._tls.run(), name="kubelet-certificate")
                log.info("kubelet API serving", host=self._config.host, port=self.port)
                self._ready.set()
        finally:
            self._ready.clear()
            listening.close()
            await asyncio.gather(*(server.shutdown(_STOP_TIMEOUT) for server in servers.values()))

    def _http_server(self, *, certified: bool) -> web.Server:
        return web.Server(
            self._answer,
            handler_cancellation=True,
            keepalive_timeout=_KEEPALIVE,
            lingering_time=0.0,
            max_line_size=_HEAD_OF_CERTIFIED if certified else _HEAD_OF_STRANGERS,
            max_field_size=_HEAD_OF_STRANGERS,
            access_log=None,
            auto_decompress=False,
            logger=_silent_logger(),
        )

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The whole way of a request; its result is counted here."""
        link = connection.of(request)
        if link is None:
            raise ConnectionResetError("the caller is gone")
        link.request_started()
        begun = time.monotonic()
        route, response = "other", None
        try:
            route, response = await self._dispatch(request, link)
            return response
        finally:
            link.request_ended()
            code = str(response.status) if response is not None else "cut"
            method = request.method if request.method in _METHODS else "other"
            self._instruments.requests.labels(route, method, code).inc()
            self._instruments.duration.labels(route).observe(time.monotonic() - begun)

    async def _dispatch(self, request: web.BaseRequest, link: connection.Connection) -> tuple[str, web.StreamResponse]:
        authorization = request.headers.getall("Authorization", ())
        user = await self._authenticator.authenticate(link.certificate, authorization=authorization)
        if user is None:
            return "other", _text(401, "Unauthorized", close=True)
        link.authenticated()
        try:
            path, query = paths.split(request.raw_path)
            await self._authorize(user, request.method, path)
            target = dataclasses.replace(self._resolve(request.method, path), query=query)
        except paths.BadPathError as error:
            return "other", _text(400, str(error), close=True)
        except RequestError as error:
            return "other", _text(error.status, error.message)
        return target.route.name, await self._serve(request, target, user=user)

    async def _authorize(self, user: User, method: str, path: str) -> None:
        subresources, verb = paths.subresources(path), paths.verb(method, path)
        if await self._authorizer.allowed(user, verb=verb, subresources=subresources):
            return
        log.info("request forbidden", user=user.name, verb=verb, subresources=subresources)
        listed = " ".join(subresources)
        raise RequestError(
            403, f"Forbidden (user={user.name}, verb={verb}, resource=nodes, subresource(s)=[{listed}])\n"
        )

    def _resolve(self, method: str, path: str) -> paths.Target:
        target = paths.resolve(path)
        if target is None:
            raise RequestError(404, "404: Page Not Found")
        if target.route.debugging and not self._config.debugging_handlers:
            raise RequestError(405, "Debug endpoints are disabled.")
        if method not in target.route.methods:
            raise RequestError(405, "405: Method Not Allowed")
        return target

    async def _serve(self, request: web.BaseRequest, target: paths.Target, *, user: User) -> web.StreamResponse:
        route = target.route
        if route.creates:
            log.info(
                "stream requested",
                route=route.name,
                user=user.name,
                namespace=target.namespace,
                pod=target.pod,
                container=target.container,
            )
        try:
            return await _HANDLERS[route.name](self._context, request, target)
        except RequestError as error:
            return _text(error.status, error.message, close=route.creates)
        except ConnectionError:
            raise
        except Exception:
            # Anything else is a bug of ours: the caller learns no more than that.
            log.exception("request failed", route=route.name)
            return _text(500, "internal error", close=True)


def require_c_parser() -> None:
    """Refuse to serve with aiohttp's pure Python parser, which is more lenient and slower. Raises RuntimeError."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise RuntimeError("aiohttp runs without its C parser (AIOHTTP_NO_EXTENSIONS set, or a broken installation)")


def _text(status: int, text: str, *, close: bool = False) -> web.Response:
    response = web.Response(status=status, text=text, content_type="text/plain")
    if close:
        response.force_close()
    return response


def _silent_logger() -> logging.Logger:
    """aiohttp reports every malformed request with a traceback; that is for strangers to cause, so not in our log."""
    logger = logging.getLogger("vk.server.http")
    logger.setLevel(logging.CRITICAL + 1)
    return logger


def _kubelet_configuration(config: ServerConfig) -> dict[str, object]:
    return {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "address": config.host,
        "port": config.port,
        "readOnlyPort": 0,
        "enableServer": True,
        "enableDebuggingHandlers": config.debugging_handlers,
        "authentication": {
            "x509": {"clientCAFile": str(config.client_ca_file or "")},
            "webhook": {"enabled": True, "cacheTTL": "2m0s"},
            "anonymous": {"enabled": False},
        },
        "authorization": {
            "mode": "Webhook",
            "webhook": {"cacheAuthorizedTTL": "5m0s", "cacheUnauthorizedTTL": "30s"},
        },
        "tlsCertFile": str(config.certificate_file),
        "tlsPrivateKeyFile": str(config.key_file),
        "tlsMinVersion": "VersionTLS12",
        "streamingConnectionIdleTimeout": f"{int(config.stream_idle_timeout)}s",
        "nodeStatusUpdateFrequency": "10s",
        "nodeLeaseDurationSeconds": 40,
    }
