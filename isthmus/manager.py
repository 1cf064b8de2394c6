"""`isthmus manager`: builds the controllers of one cluster and hands them to a supervisor.

Any number of replicas may run: one leads and decides, the others wait with warm caches and serve. A replica that loses
its lease ends, so that nothing of it can go on; its Deployment starts it anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any

import prometheus_client
import structlog
from msgspec import Meta

from api.offloading.namespaces import NAME, NamespaceOffloading
from api.offloading.virtual_node import VirtualNode
from isthmus.health import HealthServer
from isthmus.options import LogOptions, OptionsError, host_port
from isthmus.providers import Providers
from isthmus.retire import Retirement
from kube import config
from kube.client import Client
from kube.config import Credentials
from kube.election import LeaderElector
from kube.events import EventRecorder
from kube.reflector import Reflector
from kube.store import Store
from kube.supervisor import Stage, Supervisor
from reflection.scheduling.keeper import KeeperSettings
from reflection.scheduling.registration import Endpoint
from reflection.scheduling.scheduling import Scheduling, SchedulingSettings
from reflection.scheduling.webhook import WebhookSettings
from reflection.storage.controller import Storage
from vk.virtualnode.approval import ServingApprover
from vk.virtualnode.controller import VirtualNodes
from vk.virtualnode.settings import VirtualNodeSettings

log = structlog.get_logger(__name__)

LEASE = "isthmus-manager"
LEASE_SECONDS = 15.0


class LeadershipLostError(Exception):
    """Another replica leads now, or may: this one ends."""


class ManagerOptions(LogOptions, kw_only=True, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """What the user may set. Lists are repeated flags; each description is the flag's help."""

    image: Annotated[str, Meta(description="image of isthmus that virtual kubelets run")]
    kubeconfig: Annotated[str, Meta(description="kubeconfig of this cluster; empty: the pod's own service account")] = (
        ""
    )
    namespace: Annotated[str, Meta(description="namespace of isthmus' own objects")] = "isthmus"
    consumer_id: Annotated[
        str, Meta(description="short name of this cluster, unique among its providers' consumers")
    ] = "consumer"
    api_server: Annotated[
        str, Meta(description="URL of this cluster's API server as pods reach it; empty: as the manager does")
    ] = ""
    health_listen: Annotated[str, Meta(description="address:port of /healthz, /readyz and /metrics; empty: none")] = (
        "127.0.0.1:10258"
    )
    webhook_listen: Annotated[
        str, Meta(description="address:port of the webhook that prepares pods of offloaded namespaces; empty: none")
    ] = "0.0.0.0:9443"
    webhook_service: Annotated[
        str, Meta(description="Service in the manager's namespace by which API servers reach the webhook")
    ] = "isthmus-webhook"
    identity: Annotated[str, Meta(description="name of this replica; empty: the host's, which is the pod's")] = ""


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
        log.info("manager starts", namespace=options.namespace, consumer_id=options.consumer_id)
        await supervisor.run(stop)
    log.info("manager stops; virtual nodes go on")


async def build(
    options: ManagerOptions,
    client: Client,
    credentials: Credentials,
    *,
    registry: prometheus_client.CollectorRegistry,
) -> Supervisor:
    """Wire all parts of one manager."""
    supervisor = Supervisor()
    identity = options.identity or f"{socket.gethostname()}-{os.getpid()}"
    elector = LeaderElector(
        client,
        namespace=options.namespace,
        name=LEASE,
        identity=identity,
        duration=LEASE_SECONDS,
        registry=registry,
    )
    recorder = EventRecorder(client, component="isthmus-manager", host=identity)
    if options.health_listen:
        host, port = host_port(options.health_listen, option="health-listen")
        health = HealthServer(host, port, is_ready=lambda: supervisor.started, registry=registry)
        supervisor.add("health", health.run, stage=Stage.SERVERS, ready=health.ready)
    supervisor.add("events", recorder.run, stage=Stage.CLIENTS)
    supervisor.add("election", elector.run, stage=Stage.CLIENTS)
    declared = _add_namespaces(supervisor, options, client, elector=elector, recorder=recorder, registry=registry)
    await _add_virtual_nodes(
        supervisor, declared, options, client, credentials, elector=elector, recorder=recorder, registry=registry
    )
    return supervisor


def _add_namespaces(
    supervisor: Supervisor,
    options: ManagerOptions,
    client: Client,
    *,
    elector: LeaderElector,
    recorder: EventRecorder,
    registry: prometheus_client.CollectorRegistry,
) -> Store[NamespaceOffloading]:
    """NamespaceOffloadings, and the webhook that prepares their pods: it serves in every replica."""
    webhook: WebhookSettings | None = None
    if options.webhook_listen:
        host, port = host_port(options.webhook_listen, option="webhook-listen")
        endpoint = Endpoint(service=options.webhook_service, namespace=options.namespace)
        keeper = KeeperSettings(namespace=options.namespace, endpoint=endpoint)
        webhook = WebhookSettings(keeper=keeper, host=host, port=port)
    settings = SchedulingSettings(consumer_id=options.consumer_id, namespace=options.namespace, webhook=webhook)
    scheduling = Scheduling(client, settings, leadership=elector, recorder=recorder, registry=registry)
    _add_tasks(supervisor, scheduling.cache_tasks(), stage=Stage.CACHES)
    _add_tasks(supervisor, scheduling.server_tasks(), stage=Stage.WORKERS)
    _add_tasks(supervisor, scheduling.worker_tasks(), stage=Stage.WORKERS)
    return scheduling.offloadings.objects.store


def _add_tasks(
    supervisor: Supervisor, tasks: Iterable[tuple[str, Callable[[], Awaitable[None]]]], *, stage: Stage
) -> None:
    for name, run in tasks:
        supervisor.add(name, run, stage=stage)


async def _add_virtual_nodes(
    supervisor: Supervisor,
    declared: Store[NamespaceOffloading],
    options: ManagerOptions,
    client: Client,
    credentials: Credentials,
    *,
    elector: LeaderElector,
    recorder: EventRecorder,
    registry: prometheus_client.CollectorRegistry,
) -> None:
    access = await credentials.access()
    if credentials.authority is None:
        raise OptionsError("--kubeconfig: needs a certificate authority, for virtual kubelets are given the same")
    settings = VirtualNodeSettings(
        namespace=options.namespace,
        image=options.image,
        consumer_id=options.consumer_id,
        server=options.api_server or access.server,
        ca=credentials.authority,
        declared=True,
        election_namespace=f"isthmus-{options.consumer_id}",
    )

    def others(virtual: VirtualNode) -> list[VirtualNode]:
        """VirtualNodes that stay and use the same provider."""
        return [
            other
            for other in controller.virtual_nodes.store.values()
            if other.metadata.uid != virtual.metadata.uid
            and other.spec.provider == virtual.spec.provider
            and other.metadata.deletion_timestamp is None
        ]

    providers = Providers(
        client,
        namespace=options.namespace,
        consumer_id=options.consumer_id,
        declared=lambda provider, namespace: declared_name(declared, provider, namespace),
        virtual_nodes=lambda: controller.virtual_nodes.store.values(),  # noqa: PLW0108 - made below
    )
    retirement = Retirement(providers, consumer_id=options.consumer_id, others=others)
    controller = VirtualNodes(client, settings, retire=retirement, check=elector.check, registry=registry)
    approver = ServingApprover(client, addresses=controller.addresses, check=elector.check, registry=registry)
    for name, reflector in (*controller.cache_tasks(), ("certificate requests", approver.requests)):
        supervisor.add(name, reflector.run, stage=Stage.CACHES, ready=_synced(reflector))
    supervisor.add("virtual node controller", while_leading(elector, controller.controller.run), stage=Stage.WORKERS)
    supervisor.add("serving approver", while_leading(elector, approver.controller.run), stage=Stage.WORKERS)
    _add_storage(supervisor, options, client, providers, elector=elector, recorder=recorder, registry=registry)


def _add_storage(
    supervisor: Supervisor,
    options: ManagerOptions,
    client: Client,
    providers: Providers,
    *,
    elector: LeaderElector,
    recorder: EventRecorder,
    registry: prometheus_client.CollectorRegistry,
) -> None:
    storage = Storage(
        client, providers, recorder, consumer_id=options.consumer_id, check=elector.check, registry=registry
    )
    for name, reflector in storage.cache_tasks():
        supervisor.add(name, reflector.run, stage=Stage.CACHES, ready=_synced(reflector))
    for name, controller in (("claims", storage.claim_controller), ("volumes", storage.volume_controller)):
        supervisor.add(f"{name} controller", while_leading(elector, controller.run), stage=Stage.WORKERS)


def declared_name(store: Store[NamespaceOffloading], provider: str, namespace: str) -> str | None:
    """What a NamespaceOffloading's status says of its namespace's name at a provider."""
    found = store.get((namespace, NAME))
    told = found.status.providers if found is not None else ()
    return next((one.namespace for one in told if one.provider == provider and one.namespace), None)


def while_leading(elector: LeaderElector, work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """`work`, begun when we lead. Raises `LeadershipLostError` when we no longer do."""

    async def run_led() -> None:
        await elector.leading.wait()
        working = asyncio.ensure_future(work())
        watching = asyncio.ensure_future(elector.lost())
        try:
            done, _ = await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            raise LeadershipLostError("another replica leads, or may")
        finally:
            for task in (working, watching):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(working, watching, return_exceptions=True)

    return run_led


def _synced(reflector: Reflector[Any]) -> Callable[[], Awaitable[None]]:
    async def ready() -> None:
        await reflector.synced.wait()

    return ready
