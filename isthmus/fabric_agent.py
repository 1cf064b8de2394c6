"""`isthmus fabric-agent`: one agent of the fabric, with its gRPC server, health endpoint and metrics.

It stops without touching the kernel: what it made goes on carrying packets, and the next start finds it as it should
be. `--clean` removes all of it instead.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path
from typing import Annotated, Literal

import prometheus_client
import structlog
from msgspec import Meta

from isthmus.health import HealthServer
from isthmus.options import LogOptions, OptionsError, host_port
from kube.supervisor import Stage, Supervisor
from netfabric.agent.agent import Agent, AgentSettings
from netfabric.agent.credentials import TlsFiles
from netfabric.agent.metrics import AgentCollector
from netfabric.agent.model import Role
from netfabric.agent.service import UNIX, FabricServer

log = structlog.get_logger(__name__)

DEFAULT_SOCKET = "unix:/run/isthmus/fabric.sock"


class FabricAgentOptions(LogOptions, kw_only=True, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """What the user may set. Lists are repeated flags; each description is the flag's help."""

    role: Annotated[
        Literal["gateway", "node", "probe"],
        Meta(description="gateway: tunnels to peers end here; node: the way there from a node's pods; probe: measure"),
    ]
    name: Annotated[
        str, Meta(description="the agent's name for its controller; empty: the host's, a pod's own name")
    ] = ""
    listen: Annotated[
        str,
        Meta(description="where the controller calls: unix:/path, for the same user only, or address:port with TLS"),
    ] = DEFAULT_SOCKET
    tls_cert_file: Annotated[
        str,
        Meta(description="certificate of the agent, needed for address:port; all three are read anew when they change"),
    ] = ""
    tls_private_key_file: Annotated[str, Meta(description="key of that certificate")] = ""
    client_ca_file: Annotated[str, Meta(description="CA of the controller's certificate")] = ""
    client_name: Annotated[
        list[str], Meta(description="name in the controller's certificate; needed with --client-ca-file")
    ] = []  # noqa: RUF012 - msgspec gives each its own
    state_directory: Annotated[
        str, Meta(description="where the last desired state is kept between runs, keys included, for the owner only")
    ] = "/var/lib/isthmus/fabric"
    local_socket: Annotated[
        str,
        Meta(
            description="unix:/path where `isthmus fabric-agent status` asks beside --listen, for the same user only; "
            "empty: none"
        ),
    ] = ""
    sysctl_directory: Annotated[
        str, Meta(description="where /proc/sys/net can be written; in a container that path itself can not")
    ] = "/proc/sys/net"
    health_listen: Annotated[str, Meta(description="address:port of /healthz, /readyz and /metrics; empty: none")] = ""
    clean: Annotated[bool, Meta(description="remove all that the agent made from kernel and disk, and end")] = False


async def run(options: FabricAgentOptions) -> None:
    """Run until SIGTERM or SIGINT, or clean up. Raises `OptionsError`, or what made a part fail."""
    settings = AgentSettings(
        name=options.name or socket.gethostname(),
        role=Role(options.role),
        state_directory=Path(options.state_directory),
        sysctl_directory=Path(options.sysctl_directory),
    )
    tls = _tls(options)
    async with Agent.start(settings) as agent:
        if options.clean:
            problems = await agent.clean()
            if problems:
                raise OptionsError("; ".join(f"{problem.object}: {problem.message}" for problem in problems))
            return
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        supervisor = build(options, agent, tls)
        log.info("agent starts", agent=settings.name, role=settings.role.value)
        await supervisor.run(stop)
    log.info("agent stops; what it made stays")


def build(options: FabricAgentOptions, agent: Agent, tls: TlsFiles | None) -> Supervisor:
    """Wire the parts of one agent."""
    supervisor = Supervisor()
    registry = prometheus_client.CollectorRegistry()
    prometheus_client.ProcessCollector(registry=registry)
    registry.register(AgentCollector(agent))
    if options.health_listen:
        host, port = host_port(options.health_listen, option="health-listen")
        health = HealthServer(host, port, is_ready=lambda: supervisor.started, registry=registry)
        supervisor.add("health", health.run, stage=Stage.SERVERS, ready=health.ready)
    for name, part in agent.parts():
        supervisor.add(name, part, stage=Stage.WORKERS)
    server = FabricServer(agent, listen=options.listen, tls=tls)
    supervisor.add("grpc", server.run, stage=Stage.HEARTBEAT, ready=server.ready)
    if options.local_socket:
        local = FabricServer(agent, listen=options.local_socket)
        supervisor.add("local grpc", local.run, stage=Stage.HEARTBEAT, ready=local.ready)
    return supervisor


def _tls(options: FabricAgentOptions) -> TlsFiles | None:
    if options.local_socket and not options.local_socket.startswith(UNIX):
        raise OptionsError("--local-socket: expected unix:/path")
    files = {
        "tls-cert-file": options.tls_cert_file,
        "tls-private-key-file": options.tls_private_key_file,
        "client-ca-file": options.client_ca_file,
    }
    if options.listen.startswith(UNIX):
        if any(files.values()):
            raise OptionsError("--listen is a Unix socket, which is the owner's alone: certificates have no meaning")
        return None
    host_port(options.listen, option="listen")
    for flag, value in files.items():
        if not value:
            raise OptionsError(f"--{flag}: is needed when --listen is an address; or listen at unix:/path")
        if not Path(value).is_file():
            raise OptionsError(f"--{flag} {value}: there is no such file")
    if not options.client_name:
        raise OptionsError("--client-name: is needed with --client-ca-file, for not all that the CA signed may command")
    return TlsFiles(
        certificate=Path(options.tls_cert_file),
        key=Path(options.tls_private_key_file),
        client_ca=Path(options.client_ca_file),
        client_names=tuple(options.client_name),
    )
