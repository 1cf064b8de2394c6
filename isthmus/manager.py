"""`isthmus manager`: builds the modules of one cluster's manager and hands them to a supervisor.

Any number of replicas may run: one leads and decides, the others wait with warm caches and serve. A replica that loses
its lease ends, so that nothing of it can go on; its Deployment starts it anew. What it does is said by `--module`
(`isthmus.modules.table`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import prometheus_client
import structlog

from isthmus.health import HealthServer
from isthmus.modules import table
from isthmus.modules.options import ManagerOptions
from isthmus.modules.parts import Parts
from isthmus.options import host_port
from kube import config
from kube.client import Client
from kube.config import Credentials
from kube.election import LeaderElector
from kube.events import EventRecorder
from kube.supervisor import Stage, Supervisor

log = structlog.get_logger(__name__)

LEASE = "isthmus-manager"


async def run(options: ManagerOptions) -> None:
    """Run until SIGTERM or SIGINT. Raises `OptionsError`, `kube.errors.ConfigError`, or what made a part fail."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    registry = prometheus_client.CollectorRegistry()
    prometheus_client.ProcessCollector(registry=registry)
    credentials = await config.load(kubeconfig=options.kubeconfig or None)
    async with Client.connect(credentials, name="own", registry=registry) as client:
        supervisor = await build(options, client, credentials, registry=registry)
        log.info("manager starts", modules=options.module or list(table.DEFAULT), namespace=options.namespace)
        await supervisor.run(stop)
    log.info("manager stops; what runs goes on")


async def build(
    options: ManagerOptions,
    client: Client,
    credentials: Credentials,
    *,
    registry: prometheus_client.CollectorRegistry,
) -> Supervisor:
    """Wire all parts of one manager. Raises `OptionsError`."""
    modules = table.chosen(options.module)
    supervisor = Supervisor()
    identity = options.identity or f"{socket.gethostname()}-{os.getpid()}"
    elector = LeaderElector(
        client,
        namespace=options.namespace,
        name=LEASE,
        identity=identity,
        duration=options.lease_seconds,
        registry=registry,
    )
    recorder = EventRecorder(client, component="isthmus-manager", host=identity)
    if options.health_listen:
        host, port = host_port(options.health_listen, option="health-listen")
        health = HealthServer(host, port, is_ready=lambda: supervisor.started, registry=registry)
        supervisor.add("health", health.run, stage=Stage.SERVERS, ready=health.ready)
    supervisor.add("events", recorder.run, stage=Stage.CLIENTS)
    supervisor.add("election", elector.run, stage=Stage.CLIENTS)
    parts = Parts(
        options=options,
        client=client,
        credentials=credentials,
        supervisor=supervisor,
        elector=elector,
        recorder=recorder,
        registry=registry,
    )
    for add in modules:
        await add(parts)
    return supervisor
