"""The agent's gRPC server: on a Unix socket that only its owner can open, or by TLS with certificates both ways.

Health (grpc.health.v1) and reflection are served beside it, to the same callers. By TLS a caller needs a certificate of
the given CA with one of the given names: another agent's certificate, though of the same CA, is not the controller's.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from netfabric._pb import fabric_pb2 as pb
from netfabric._pb import fabric_pb2_grpc
from netfabric.agent.agent import Agent
from netfabric.agent.credentials import Credentials, TlsFiles
from netfabric.agent.errors import FabricError, InvalidStateError, StaleStateError, UnsupportedError

log = structlog.get_logger(__name__)

UNIX = "unix:"
GRACE_SECONDS = 2.0
_LARGEST_STATE = 64 * 2**20
_INTERVAL = (1.0, 10.0, 600.0)
_CODES: dict[type[FabricError], grpc.StatusCode] = {
    InvalidStateError: grpc.StatusCode.INVALID_ARGUMENT,
    StaleStateError: grpc.StatusCode.FAILED_PRECONDITION,
    UnsupportedError: grpc.StatusCode.UNIMPLEMENTED,
}


class Servicer(fabric_pb2_grpc.FabricAgentServicer):
    """Hands calls to the agent and turns its errors into status codes."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def Apply(self, request: pb.DesiredState, context: Any) -> pb.AppliedState:  # noqa: N802 - gRPC's name
        """Have a state."""
        try:
            return await self._agent.apply(request)
        except FabricError as error:
            log.warning("state refused", reason=type(error).__name__, error=str(error))
            await context.abort(_CODES.get(type(error), grpc.StatusCode.INTERNAL), str(error))
            raise AssertionError from None  # abort always raises

    async def Watch(self, request: pb.WatchRequest, context: Any) -> AsyncIterator[pb.AgentState]:  # noqa: N802
        """Tell the state, again and again."""
        low, usual, high = _INTERVAL
        interval = min(max(float(request.interval_seconds or usual), low), high)
        async for state in self._agent.states(interval=interval):
            yield state

    async def Probe(self, request: pb.ProbeRequest, context: Any) -> pb.ProbeResult:  # noqa: N802
        """Measure a path."""
        try:
            return await self._agent.probe(request)
        except InvalidStateError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise AssertionError from None


class _Callers(grpc.aio.ServerInterceptor):  # type: ignore[misc, type-arg, unused-ignore]
    """Lets only callers with one of the given names in their certificate through, to any service."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = set(names)

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        return handler and self._guarded(handler)

    def _guarded(self, handler: Any) -> Any:
        async def check(context: Any) -> None:
            given = {
                value.decode(errors="replace")
                for key in ("x509_common_name", "x509_subject_alternative_name")
                for value in context.auth_context().get(key, ())
            }
            if not given & self._names:
                log.warning("caller refused", names=sorted(given)[:4])
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, "this certificate is not the controller's")

        if handler.response_streaming:

            async def streamed(request: Any, context: Any) -> AsyncIterator[Any]:
                await check(context)
                async for item in _stream(handler.unary_stream or handler.stream_stream, request, context):
                    yield item

            kind = "stream_stream" if handler.request_streaming else "unary_stream"
            return handler._replace(**{kind: streamed})

        async def single(request: Any, context: Any) -> Any:
            await check(context)
            answer = handler.unary_unary(request, context)
            return await answer if asyncio.iscoroutine(answer) else answer

        return handler._replace(unary_unary=single)


async def _stream(behaviour: Any, request: Any, context: Any) -> AsyncIterator[Any]:
    answer = behaviour(request, context)
    if hasattr(answer, "__aiter__"):
        async for item in answer:
            yield item
    elif asyncio.iscoroutine(answer):
        await answer
    else:
        for item in answer:
            yield item


class FabricServer:
    """Serves an agent until cancelled; `ready` returns once it listens."""

    def __init__(self, agent: Agent, *, listen: str, tls: TlsFiles | None = None) -> None:
        self._agent = agent
        self._listen = listen
        self._tls = tls
        self._listening = asyncio.Event()
        self.port = 0
        """The TCP port it listens at, for one that was chosen by the kernel."""

    async def ready(self) -> None:
        """Wait until calls are taken."""
        await self._listening.wait()

    async def run(self) -> None:
        """Serve for ever. Raises OSError if it can't listen."""
        interceptors = [_Callers(self._tls.client_names)] if self._tls else []
        server = grpc.aio.server(
            interceptors=interceptors,
            options=[("grpc.max_receive_message_length", _LARGEST_STATE), ("grpc.so_reuseport", 0)],
        )
        fabric_pb2_grpc.add_FabricAgentServicer_to_server(Servicer(self._agent), server)
        state = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(state, server)
        fabric = pb.DESCRIPTOR.services_by_name["FabricAgent"].full_name
        reflection.enable_server_reflection((fabric, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        await self._open(server)
        await server.start()
        for name in ("", fabric):
            await state.set(name, health_pb2.HealthCheckResponse.SERVING)
        self._listening.set()
        log.info("listening", at=self._listen)
        try:
            await asyncio.Event().wait()
        finally:
            await state.enter_graceful_shutdown()
            await server.stop(GRACE_SECONDS)

    async def _open(self, server: grpc.aio.Server) -> None:
        if self._tls is not None:
            credentials = await asyncio.to_thread(Credentials(self._tls).server)
            self.port = server.add_secure_port(self._listen, credentials)
            return
        if not self._listen.startswith(UNIX):
            raise OSError(f"{self._listen}: without certificates the agent listens at a Unix socket only")
        path = Path(self._listen.removeprefix(UNIX))
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # gRPC makes the socket with the process's umask; nobody else may open it, not for a moment.
        before = os.umask(0o177)
        try:
            server.add_insecure_port(self._listen)
        finally:
            os.umask(before)
