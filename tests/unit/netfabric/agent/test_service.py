"""Who may call an agent, and what a caller is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from netfabric._pb import fabric_pb2 as pb
from netfabric.agent import client
from netfabric.agent.agent import Agent
from netfabric.agent.credentials import TlsFiles
from netfabric.agent.errors import FabricError, InvalidStateError, StaleStateError, UnsupportedError
from netfabric.agent.service import FabricServer
from tests.unit.netfabric.agent.states import KEY, gateway


class StubAgent:
    """Stands for an agent: no kernel is touched."""

    def __init__(self, error: FabricError | None = None) -> None:
        self.error = error
        self.applied: list[pb.DesiredState] = []

    async def apply(self, message: pb.DesiredState) -> pb.AppliedState:
        if self.error is not None:
            raise self.error
        self.applied.append(message)
        return pb.AppliedState(term=message.term, generation=message.generation)

    async def states(self, *, interval: float) -> AsyncIterator[pb.AgentState]:
        yield pb.AgentState(agent="gw")
        await asyncio.sleep(interval)

    async def probe(self, request: pb.ProbeRequest) -> pb.ProbeResult:
        return pb.ProbeResult(passing=True)


@asynccontextmanager
async def serving(agent: StubAgent, *, listen: str, tls: TlsFiles | None = None) -> AsyncIterator[FabricServer]:
    server = FabricServer(cast(Agent, agent), listen=listen, tls=tls)
    task = asyncio.create_task(server.run(), name="server")
    try:
        ready = asyncio.ensure_future(server.ready())
        await asyncio.wait({ready, task}, return_when=asyncio.FIRST_COMPLETED, timeout=20)
        ready.cancel()
        if task.done():
            task.result()
        yield server
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


def tls_files(folder: Path, authority: trustme.CA) -> TlsFiles:
    own = authority.issue_cert("localhost", key_type=trustme.KeyType.ECDSA)
    files = TlsFiles(
        certificate=folder / "cert", key=folder / "key", client_ca=folder / "ca", client_names=("isthmus-manager",)
    )
    own.cert_chain_pems[0].write_to_path(files.certificate)
    own.private_key_pem.write_to_path(files.key)
    authority.cert_pem.write_to_path(files.client_ca)
    return files


def credentials(authority: trustme.CA, *, issuer: trustme.CA | None = None, name: str = "") -> Any:
    if not name:
        return grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    own = (issuer or authority).issue_cert(name, key_type=trustme.KeyType.ECDSA)
    key, chain = own.private_key_pem.bytes(), own.cert_chain_pems[0].bytes()
    return grpc.ssl_channel_credentials(authority.cert_pem.bytes(), private_key=key, certificate_chain=chain)


async def test_a_unix_socket_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "run" / "s"
    agent = StubAgent()
    async with serving(agent, listen=f"unix:{path}"), client.connect(f"unix:{path}") as stub:
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        answer = await stub.Apply(gateway(), timeout=20)
        assert (answer.term, answer.generation) == (1, 1)
        assert (await client.state(f"unix:{path}", timeout=20)).agent == "gw"


async def test_an_address_without_certificates_is_refused() -> None:
    with pytest.raises(OSError, match="Unix socket"):
        async with serving(StubAgent(), listen="127.0.0.1:0"):
            pass


async def test_a_caller_without_a_certificate_or_with_a_foreign_one_is_refused(
    tmp_path: Path, authority: trustme.CA
) -> None:
    agent = StubAgent()
    stranger = trustme.CA(key_type=trustme.KeyType.ECDSA)
    async with serving(agent, listen="127.0.0.1:0", tls=tls_files(tmp_path, authority)) as server:
        for given in (credentials(authority), credentials(authority, issuer=stranger, name="isthmus-manager")):
            async with client.connect(f"localhost:{server.port}", credentials=given) as stub:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await stub.Apply(gateway(), timeout=20)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        async with client.connect(f"localhost:{server.port}") as stub:
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.Apply(gateway(), timeout=20)
    assert not agent.applied


async def test_a_certificate_of_the_same_authority_with_another_name_commands_nothing(
    tmp_path: Path, authority: trustme.CA
) -> None:
    agent = StubAgent()
    async with serving(agent, listen="127.0.0.1:0", tls=tls_files(tmp_path, authority)) as server:
        target = f"localhost:{server.port}"
        other = credentials(authority, name="another-agent")
        async with client.connect(target, credentials=other) as stub:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Apply(gateway(), timeout=20)
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for _ in stub.Watch(pb.WatchRequest(), timeout=20):
                    pass
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        async with grpc.aio.secure_channel(target, other) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert not agent.applied
        right = credentials(authority, name="isthmus-manager")
        async with client.connect(target, credentials=right) as stub:
            await stub.Apply(gateway(), timeout=20)
            assert (await stub.Probe(pb.ProbeRequest(), timeout=20)).passing
        async with grpc.aio.secure_channel(target, right) as channel:
            health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
            assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert len(agent.applied) == 1


async def test_new_certificates_are_taken_up_without_a_restart(tmp_path: Path, authority: trustme.CA) -> None:
    """A new authority and a certificate of it: the next caller meets them, a connection that is open stays."""
    agent, files = StubAgent(), tls_files(tmp_path, authority)
    other = trustme.CA(key_type=trustme.KeyType.ECDSA)
    async with serving(agent, listen="127.0.0.1:0", tls=files) as server:
        target = f"localhost:{server.port}"
        async with client.connect(target, credentials=credentials(authority, name="isthmus-manager")) as early:
            await early.Apply(gateway(), timeout=20)
            tls_files(tmp_path, other)
            async with client.connect(target, credentials=credentials(other, name="isthmus-manager")) as late:
                await late.Apply(gateway(), timeout=20)
            await early.Apply(gateway(), timeout=20)
        async with client.connect(target, credentials=credentials(authority, name="isthmus-manager")) as stale:
            with pytest.raises(grpc.aio.AioRpcError):
                await stale.Apply(gateway(), timeout=20)
    assert len(agent.applied) == 3


@pytest.mark.parametrize("broken", ["cert", "key", "ca"])
async def test_unusable_certificates_leave_those_before_them(
    tmp_path: Path, authority: trustme.CA, broken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    agent, files = StubAgent(), tls_files(tmp_path, authority)
    async with serving(agent, listen="127.0.0.1:0", tls=files) as server:
        (tmp_path / broken).write_bytes(b"hunter2" if broken == "key" else b"")
        right = credentials(authority, name="isthmus-manager")
        async with client.connect(f"localhost:{server.port}", credentials=right) as stub:
            await stub.Apply(gateway(), timeout=20)
    assert agent.applied
    written = "".join(capsys.readouterr())
    assert "not reloaded" in written
    assert "hunter2" not in written


async def test_files_of_two_certificates_do_not_begin(tmp_path: Path, authority: trustme.CA) -> None:
    files = tls_files(tmp_path, authority)
    authority.issue_cert("localhost", key_type=trustme.KeyType.ECDSA).private_key_pem.write_to_path(files.key)
    with pytest.raises(ValueError, match="do not belong together"):
        async with serving(StubAgent(), listen="127.0.0.1:0", tls=files):
            pass


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidStateError("peers[0].number", "0: expected 1 to 4095"), grpc.StatusCode.INVALID_ARGUMENT),
        (StaleStateError("older"), grpc.StatusCode.FAILED_PRECONDITION),
        (UnsupportedError("requires x"), grpc.StatusCode.UNIMPLEMENTED),
    ],
)
async def test_a_refusal_says_why_and_no_secret(
    tmp_path: Path, error: FabricError, code: grpc.StatusCode, capsys: pytest.CaptureFixture[str]
) -> None:
    path = f"unix:{tmp_path}/s"
    async with serving(StubAgent(error), listen=path), client.connect(path) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Apply(gateway(), timeout=20)
    assert caught.value.code() is code
    assert caught.value.details() == str(error)
    written = "".join(capsys.readouterr())
    assert KEY.hex() not in written
    assert repr(KEY) not in written


async def test_what_is_no_message_at_all_is_refused(tmp_path: Path) -> None:
    agent, path = StubAgent(), f"unix:{tmp_path}/s"
    method = "/isthmus.fabric.v1.FabricAgent/Apply"
    async with serving(agent, listen=path), grpc.aio.insecure_channel(path) as channel:
        call: Any = channel.unary_unary(method)
        with pytest.raises(grpc.aio.AioRpcError):
            await call(b"\xff\xff\xff\xff", timeout=20)
        await call(b"", timeout=20)
    assert agent.applied == [pb.DesiredState()]
