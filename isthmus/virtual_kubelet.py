"""`isthmus virtual-kubelet`: builds the parts of one virtual node and hands them to a supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from pathlib import Path

import prometheus_client
import structlog

from api.meta import seconds
from api.offloading.definitions import NAMESPACE_MAPS, SHADOW_PODS
from api.offloading.namespaces import NAME
from isthmus import dry_run, kinds
from isthmus.addresses import Addresses, Flat
from isthmus.authority import AuthorityFile
from isthmus.capacity import capacity_source
from isthmus.health import HealthServer
from isthmus.locator import Locator
from isthmus.options import Options, OptionsError, host_port, pairs
from isthmus.peered import Peered
from isthmus.placement import Placement
from kube import config, kubeconfig
from kube.client import Client
from kube.election import LeaderElector
from kube.errors import KubeError
from kube.events import EventRecorder
from kube.reflector import Timing
from kube.resources import PODS, SERVICES
from kube.supervisor import Stage, Supervisor
from reflection.kinds.reflection import Reflection
from reflection.managed.names import tenant_namespace
from reflection.mapping import DefaultName, FixedMapping, NamespaceMapping
from reflection.offloading import Offloading
from reflection.scheduling.declared import Declared
from reflection.scheduling.leadership import Alone, Leadership
from reflection.scheduling.names import PROVIDER_LABEL
from reflection.scheduling.provider import Entry, ProviderNamespaces
from reflection.settings import KINDS_ROLE, REMOTE_ROLE, ReflectionSettings
from vk.node.access import DIRECT, Asks, ProviderAccess
from vk.node.capacity import QuotaCapacity
from vk.node.certificate import CertificateFiles, CertificateManager
from vk.node.controller import NodeController
from vk.node.csr import Names
from vk.node.discovery import Facts, discover
from vk.node.inventory import Inventory
from vk.node.lease import LeaseKeeper
from vk.node.ping import ProviderPing
from vk.node.settings import DEFAULT_TAINT, NodeSettings, Taint
from vk.server.app import KubeletServer, ServerConfig

log = structlog.get_logger(__name__)

RUNTIME_CLASS = "isthmus"
"""The RuntimeClass of `deploy/manager`: it says where pods go, and nothing about how containers are run."""
FACTS_SECONDS = 5.0
"""How long the start waits for the provider to tell its version and platform before the consumer's are reported."""


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
    reflected = reflection_settings(options, settings, mapping=_mapping(options))
    recorder = EventRecorder(consumer, component="isthmus-virtual-kubelet", host=settings.name)
    offloading = Offloading(reflected, consumer=consumer, provider=provider, recorder=recorder, registry=registry)
    capacity = capacity_source(options, offloading, _mapping(options), provider=provider, registry=registry)
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
    """Wire all parts of one virtual node. Without `addresses` they are as --network-peering says."""
    supervisor = Supervisor()
    addresses = addresses or _translation(supervisor, options, consumer=consumer, registry=registry)
    recorder = EventRecorder(consumer, component="isthmus-virtual-kubelet", host=settings.name)
    declared = _declared(options, consumer=consumer, registry=registry)
    offloading = Offloading(
        replace(
            reflection_settings(options, settings, mapping=declared.mapping if declared else _mapping(options)),
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
        _add_declared(
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
    _add_node(
        supervisor,
        options,
        settings,
        offloading,
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


def _add_health(supervisor: Supervisor, options: Options, *, registry: prometheus_client.CollectorRegistry) -> None:
    if options.health_listen:
        host, port = host_port(options.health_listen, option="health-listen")
        health = HealthServer(host, port, is_ready=lambda: supervisor.started, registry=registry)
        supervisor.add("health", health.run, stage=Stage.SERVERS, ready=health.ready)


def _declared(options: Options, *, consumer: Client, registry: prometheus_client.CollectorRegistry) -> Declared | None:
    if not options.namespaces_from_objects:
        return None
    if options.namespace:
        raise OptionsError(
            "--namespace: not with --namespaces-from-objects, which takes them from NamespaceOffloadings"
        )
    return Declared(
        consumer,
        provider=provider_name(options),
        consumer_id=options.consumer_id,
        registry=registry,
        timing=Timing(resync=options.resync),
    )


def provider_name(options: Options) -> str:
    """The provider that NamespaceOffloadings know this virtual node by."""
    return options.provider or options.node_name


def _add_declared(
    supervisor: Supervisor,
    options: Options,
    declared: Declared,
    offloading: Offloading,
    reflected: Reflection | None,
    *,
    consumer: Client,
    provider: Client,
    registry: prometheus_client.CollectorRegistry,
) -> None:
    """Namespaces as NamespaceOffloadings want them; no pod is decided about before those are known.

    Of several processes the one that reflects kinds also makes and removes namespaces: it surely reaches the provider,
    and one that is cut off does not tell the contrary of what another tells.
    """
    name = provider_name(options)
    leadership: Leadership = reflected.owner if reflected is not None else Alone()
    elector: LeaderElector | None = None
    if options.election_namespace:
        elector = LeaderElector(
            consumer,
            namespace=options.election_namespace,
            name=f"isthmus-namespaces-{name}",
            identity=options.node_name,
            registry=registry,
        )
        supervisor.add("namespace election", elector.run, stage=Stage.CLIENTS)

    def tell(found: Iterable[Entry]) -> None:
        if reflected is not None:
            reflected.set_namespaces(kinds.entries(found, declared))

    namespaces = ProviderNamespaces(
        consumer=consumer,
        provider=provider,
        provider_id=name,
        consumer_id=options.consumer_id,
        objects=declared,
        namespaces=offloading.namespaces,
        leadership=elector or leadership,
        entries_changed=tell,
        is_empty=reflected.is_empty if reflected is not None else lambda _remote: True,
        remotes=offloading.remotes.resource,
        registry=registry,
    )

    def ended(remote: str) -> None:
        """Nothing of the provider's namespace is left: in each of its virtual kubelets, whichever removed it."""
        offloading.namespaces.forget(remote)
        offloading.caches.drop(remote)
        offloading.references.namespace_removed(remote)

    offloading.namespace_answered.append(namespaces.look)
    declared.turned.append(offloading.namespace_turned)
    declared.listeners.append(offloading.references.reconsider)
    declared.ended.append(ended)
    supervisor.add("namespace offloadings", declared.reflector.run, stage=Stage.CACHES)
    supervisor.add("declared namespaces", namespaces.run, stage=Stage.WORKERS)


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


def _add_node(
    supervisor: Supervisor,
    options: Options,
    settings: NodeSettings,
    offloading: Offloading,
    *,
    consumer: Client,
    provider: Client,
    recorder: EventRecorder,
    registry: prometheus_client.CollectorRegistry,
) -> None:
    """Node, Lease, ping, certificate and the kubelet API, which listens as soon as there is a certificate."""
    ping = ProviderPing(provider, registry=registry)
    capacity = capacity_source(options, offloading, _mapping(options), provider=provider, registry=registry)
    certificate = _certificate(options, settings, consumer=consumer, registry=registry)
    access = ProviderAccess(
        provider,
        namespaces=lambda: [namespace.name for namespace in offloading.caches.values()],
        makes_namespaces=options.namespaces_from_objects or _mapping(options).managed,
        asks=_managed_asks(options) if options.mode == "managed" else DIRECT,
    )
    node = NodeController(
        consumer,
        settings=settings,
        capacity=capacity,
        probes=[ping],
        conditions=[access, certificate, Placement(offloading.pending)],
        annotations=(lambda: capacity.annotations) if isinstance(capacity, Inventory) else dict,
        recorder=recorder,
        registry=registry,
    )
    lease = LeaseKeeper(consumer, node_name=settings.name, owner=node, registry=registry)
    callers = _callers(supervisor, options)
    server = _server(
        options, settings, offloading, client_ca=callers, consumer=consumer, provider=provider, registry=registry
    )

    async def serve() -> None:
        await certificate.ready()
        await server.run()

    if isinstance(capacity, Inventory):
        supervisor.add("inventory", capacity.run, stage=Stage.CACHES)
    if isinstance(capacity, QuotaCapacity):
        offloading.remote_pods_changed.append(capacity.refresh)
        supervisor.add("quota", capacity.run, stage=Stage.CACHES)
    supervisor.add("ping", ping.run, stage=Stage.HEARTBEAT)
    supervisor.add("provider access", access.run, stage=Stage.HEARTBEAT)
    supervisor.add("node", node.run, stage=Stage.HEARTBEAT)
    supervisor.add("lease", lease.run, stage=Stage.HEARTBEAT)
    supervisor.add("certificate", certificate.run, stage=Stage.HEARTBEAT)
    supervisor.add("kubelet API", serve, stage=Stage.SERVERS)


def _managed_asks(options: Options) -> Asks:
    """What a managed provider lets us make."""
    return Asks(pods=SHADOW_PODS, namespaces=NAMESPACE_MAPS, tenant=tenant_namespace(options.consumer_id))


def _certificate(
    options: Options,
    settings: NodeSettings,
    *,
    consumer: Client,
    registry: prometheus_client.CollectorRegistry,
) -> CertificateFiles | CertificateManager:
    if options.tls_cert_file:
        return CertificateFiles(
            certificate=Path(options.tls_cert_file), key=Path(options.tls_private_key_file), registry=registry
        )
    names = Names(node=settings.name, addresses=settings.addresses)
    return CertificateManager(consumer, names=names, state=_state(options), registry=registry)


def _server(
    options: Options,
    settings: NodeSettings,
    offloading: Offloading,
    *,
    client_ca: Path | None,
    consumer: Client,
    provider: Client,
    registry: prometheus_client.CollectorRegistry,
) -> KubeletServer:
    own = _state(options) / "kubelet-serving.pem"
    host, port = host_port(options.listen, option="listen")
    locator = Locator(offloading)
    return KubeletServer(
        ServerConfig(
            node_name=settings.name,
            certificate_file=Path(options.tls_cert_file) if options.tls_cert_file else own,
            key_file=Path(options.tls_private_key_file) if options.tls_cert_file else own,
            client_ca_file=client_ca,
            host=host,
            port=port,
            pod_selector=offloading.remote_selector,
        ),
        locator=locator,
        stats_source=locator,
        consumer=consumer,
        provider=provider,
        registry=registry,
    )


def _callers(supervisor: Supervisor, options: Options) -> Path | None:
    """The CA of the callers: as told, else the consumer's own, followed; None where there is none."""
    if options.client_ca_file:
        return Path(options.client_ca_file)

    def read() -> bytes | None:
        if options.consumer_kubeconfig:
            return kubeconfig.read_kubeconfig(Path(options.consumer_kubeconfig)).ca
        return kubeconfig.read_service_account(os.environ).ca

    file = _state(options) / "client-ca.pem"
    authority = AuthorityFile(file, read)
    if not authority.write():
        return None
    supervisor.add("callers' authority", authority.run, stage=Stage.CLIENTS)
    return file


def _state(options: Options) -> Path:
    return Path(options.state_directory) / options.node_name


def _mapping(options: Options) -> NamespaceMapping:
    fixed = pairs(options.namespace, option="namespace")
    if fixed and options.mode == "managed":
        raise OptionsError(
            "--namespace: not with --mode=managed, where the provider makes namespaces as it is asked to"
        )
    return FixedMapping(fixed) if fixed else DefaultName(options.consumer_id)


def reflection_settings(options: Options, settings: NodeSettings, *, mapping: NamespaceMapping) -> ReflectionSettings:
    """What the options say about reflection."""
    return ReflectionSettings(
        node_name=settings.name,
        node_ips=settings.addresses,
        consumer_id=options.consumer_id,
        mapping=mapping,
        managed=options.mode == "managed",
        runtime_classes={RUNTIME_CLASS: "", **pairs(options.runtime_class, option="runtime-class")},
        api_server=host_port(options.api_access, option="api-access") if options.api_access else None,
        roles={REMOTE_ROLE: PODS, **({KINDS_ROLE: SERVICES} if options.reflect_kinds else {})},
        node_selector=pairs(options.node_selector, option="node-selector"),
        namespace_linger=options.namespace_linger,
        storage_classes=pairs(options.storage_class, option="storage-class"),
        pending_timeout=_seconds(options.pending_timeout, option="pending-timeout"),
        reference_linger=options.reference_linger,
        dns_servers=_addresses(options.cluster_dns, option="cluster-dns"),
        cluster_domain=options.cluster_domain,
        resync=options.resync,
    )


def gives_tokens(declared: Declared | None) -> Callable[[str], bool]:
    """Whether a namespace opts in. Without NamespaceOffloadings none can: there `--api-access` alone decides."""

    def gives(namespace: str) -> bool:
        if declared is None:
            return True
        found = declared.reflector.store.get((namespace, NAME))
        return found is not None and found.spec.service_account_tokens

    return gives


def _addresses(given: Iterable[str], *, option: str) -> tuple[str, ...]:
    try:
        return tuple(str(ipaddress.ip_address(text)) for text in given)
    except ValueError as error:
        raise OptionsError(f"--{option}: {error}") from error


def _seconds(text: str, *, option: str) -> float | None:
    try:
        return seconds(text) if text else None
    except ValueError as error:
        raise OptionsError(f"--{option}: {error}") from error


async def node_settings(options: Options, *, consumer: Client, provider: Client) -> NodeSettings:
    """What the options say about the Node. Raises `OptionsError`, `vk.node.settings.SettingsError`."""
    facts = await _facts(provider, consumer)
    host, port = host_port(options.listen, option="listen")
    addresses = tuple(options.node_address) or ((host,) if host not in ("0.0.0.0", "::") else ())
    if not addresses:
        raise OptionsError("--node-address: needed where --listen does not name one address")
    return NodeSettings(
        name=options.node_name,
        addresses=addresses,
        port=port,
        labels={
            **({PROVIDER_LABEL: options.provider} if options.provider else {}),
            **pairs(options.label, option="label"),
        },
        taints=tuple(Taint.parse(text) for text in options.taint) or (DEFAULT_TAINT,),
        os=options.os or facts.os,
        arch=options.arch or facts.arch,
        kubelet_version=facts.version,
    )


async def _facts(*clients: Client) -> Facts:
    """What the Node says of itself: the provider's, for it runs the pods; else the consumer's. Waits for neither."""
    for client in clients:
        try:
            async with asyncio.timeout(FACTS_SECONDS):
                return await discover(client)
        except (KubeError, TimeoutError) as error:
            log.warning("version and platform not read", cluster=client.name, error=str(error))
    return Facts(version="v0.0.0", os="linux", arch="amd64")
