"""Calls an agent: for `isthmus fabric-agent status` and tests. The controller has a client of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from netfabric._pb import fabric_pb2 as pb
from netfabric._pb import fabric_pb2_grpc


@asynccontextmanager
async def connect(
    target: str, *, credentials: grpc.ChannelCredentials | None = None
) -> AsyncIterator[fabric_pb2_grpc.FabricAgentAsyncStub]:
    """A stub for the agent at `target` (unix:/path or address:port), closed at the end."""
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", 64 * 2**20)]
    if credentials is None:
        channel = grpc.aio.insecure_channel(target, options=options)
    else:
        channel = grpc.aio.secure_channel(target, credentials, options=options)
    async with channel:
        yield fabric_pb2_grpc.FabricAgentStub(channel)


async def state(target: str, *, timeout: float) -> pb.AgentState:
    """The state of the agent at a Unix socket. Raises OSError if it does not answer."""
    try:
        async with connect(target) as stub:
            async for found in stub.Watch(pb.WatchRequest(), timeout=timeout):
                return found
    except grpc.aio.AioRpcError as error:
        raise OSError(f"{target}: {error.code().name}: {error.details()}") from None
    raise OSError(f"{target}: the agent ended the call")
