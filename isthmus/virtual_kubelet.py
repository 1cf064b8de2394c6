"""`isthmus virtual-kubelet`: builds the parts of one virtual node and hands them to a supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace

import prometheus_client
import structlog

from isthmus import dry_run, kinds
from isthmus.addresses import Addresses, Flat
from isthmus.capacity import capacity_source
from isthmus.health import HealthServer
from isthmus.options import Options, OptionsError, host_port
from isthmus.peered import Peered
from isthmus.virtual.declared import add_declared, declared_of, gives_tokens
from isthmus.virtual.node import add_node
from isthmus.virtual.settings import mapping_of, node_settings, reflection_settings
from kube import config
from kube.client import Client
from kube.events import EventRecorder
from kube.supervisor import Stage, Supervisor
from reflection.offloading import Offloading
from reflection.scheduling.declared import Declared
from vk.node.datapath import DataPath
from vk.node.settings import NodeSettings

log = structlog.get_logger(__name__)


async def run(options: Options) -> None:
    """Run until SIGTERM or SIGINT. Raises `OptionsError`, `kube.errors.ConfigError`, or what made a part fail."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    registry = prometheus_client.CollectorRegistry()
    prometheus_client.ProcessCollector(registry=registry)
    async with contextlib.AsyncExitStack() as stack:
        consumer_credentials = await config.load(kubeconfig=options.consumer_kubeconfig or None)
        provider_credentials = await config.load(kubeconfig=options.provider_kubeconfig or None)
        consumer = await stack.enter_async_context(
            Client.connect(consumer_credentials, name="consumer", registry=registry)
        )
        provider = await stack.enter_async_context(
            Client.connect(provider_credentials, name="provider", registry=registry)
        )
        settings = await node_settings(options, consumer=consumer, provider=provider)
        if options.dry_run:
            await _print_plan(options, settings, consumer=consumer, provider=provider, registry=registry)
            return
        built = build(options, settings, consumer=consumer, provider=provider, registry=registry)
        log.info("virtual node starts", node=settings.name, consumer_id=options.consumer_id)
        _spare_collections()
        await built.run(stop)
    log.info("virtual node stops; node and pods stay", node=settings.name)


async def _print_plan(
    options: Options,
    settings: NodeSettings,
    *,
    consumer: Client,
    provider: Client,
    registry: prometheus_client.CollectorRegistry,
) -> None:
    reflected = reflection_settings(options, settings, mapping=mapping_of(options))
    recorder = EventRecorder(consumer, component="isthmus-virtual-kubelet", host=settings.name)
    offloading = Offloading(reflected, consumer=consumer, provider=provider, recorder=recorder, registry=registry)
    capacity = capacity_source(options, offloading, mapping_of(options), provider=provider, registry=registry)
    sys.stdout.write(await dry_run.describe(options, settings, reflected, capacity, consumer=consumer))


def _spare_collections() -> None:
    """Let the cyclic garbage collector pass over what the program is made of, and come less often.

    Measured in a burst of 1,000 pods: 7 % of the process's CPU time with Python's defaults. Little of what a reconcile
    makes is in cycles, so memory does not grow.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def build(
    options: Options,
    settings: NodeSettings,
    *,
    consumer: Client,
    provider: Client,
    registry: prometheus_client.CollectorRegistry,
    addresses: Addresses | None = None,
) -> Supervisor:
    """Wire all parts of one virtual node. Without `addresses` they are as --network-peering says.

    Raises `OptionsError`.
    """
    supervisor = Supervisor()
    addresses = addresses or _translation(supervisor, options, consumer=consumer, registry=registry)
    network = _measured(supervisor, options, settings, addresses)
    recorder = EventRecorder(consumer, component="isthmus-virtual-kubelet", host=settings.name)
    declared = declared_of(options, consumer=consumer, registry=registry)
    offloading = Offloading(
        replace(
            reflection_settings(options, settings, mapping=declared.mapping if declared else mapping_of(options)),
            may_leave=kinds.permission(options, declared),
            gives_tokens=gives_tokens(declared),
            translate=addresses.back,
        ),
        consumer=consumer,
        provider=provider,
        recorder=recorder,
        registry=registry,
    )
    _add_health(supervisor, options, registry=registry)
    supervisor.add("events", recorder.run, stage=Stage.CLIENTS)
    reflected = kinds.add(
        supervisor,
        options,
        declared,
        consumer=consumer,
        provider=provider,
        recorder=recorder,
        translation=addresses,
        registry=registry,
    )
    addresses.subscribe(offloading.reconsider)
    if reflected is not None:
        addresses.subscribe(reflected.reconsider)
    if declared is not None:
        add_declared(
            supervisor,
            options,
            declared,
            offloading,
            reflected,
            consumer=consumer,
            provider=provider,
            registry=registry,
        )
    _add_reflection(supervisor, offloading, declared)
    add_node(
        supervisor,
        options,
        settings,
        offloading,
        network=network,
        consumer=consumer,
        provider=provider,
        recorder=recorder,
        registry=registry,
    )
    return supervisor


def _translation(
    supervisor: Supervisor, options: Options, *, consumer: Client, registry: prometheus_client.CollectorRegistry
) -> Addresses:
    if not options.network_peering:
        return Flat()
    peered = Peered(consumer, peering=options.network_peering, registry=registry)
    # No status is written before the plan is known: addresses would vanish for a moment at each start.
    supervisor.add("network peering", peered.run, stage=Stage.CACHES, ready=peered.ready)
    return peered


def _measured(
    supervisor: Supervisor, options: Options, settings: NodeSettings, addresses: Addresses
) -> DataPath | None:
    if not options.probe_socket:
        return None
    if not isinstance(addresses, Peered):
        raise OptionsError("--probe-socket: needs --network-peering, which says whom to ask")
    if not options.probe_socket.startswith("unix:/"):
        raise OptionsError(f"--probe-socket {options.probe_socket!r}: expected unix:/path")
    from isthmus.datapath import Probed  # noqa: PLC0415 - gRPC is no burden to who needs none

    probed = Probed(
        addresses,
        socket=options.probe_socket,
        node=settings.name,
        peering=options.network_peering,
        own=settings.addresses,
    )
    supervisor.add("network probe", probed.run, stage=Stage.HEARTBEAT)
    return probed.data_path


def _add_health(supervisor: Supervisor, options: Options, *, registry: prometheus_client.CollectorRegistry) -> None:
    if options.health_listen:
        host, port = host_port(options.health_listen, option="health-listen")
        health = HealthServer(host, port, is_ready=lambda: supervisor.started, registry=registry)
        supervisor.add("health", health.run, stage=Stage.SERVERS, ready=health.ready)


def _add_reflection(supervisor: Supervisor, offloading: Offloading, declared: Declared | None) -> None:
    for name, task in offloading.cache_tasks():
        supervisor.add(name, task, stage=Stage.CACHES)
    for name, task in offloading.worker_tasks():
        # The node itself does not wait: its pods run on, whether their namespaces are known already or not.
        work = task if declared is None else _after(declared.reflector.synced, task)
        supervisor.add(name, work, stage=Stage.WORKERS)


def _after(event: asyncio.Event, task: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        await event.wait()
        await task()

    return run
