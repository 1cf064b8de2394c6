"""The Node of a virtual kubelet: its Lease, conditions and certificate, and the kubelet API."""

from __future__ import annotations

import os
from pathlib import Path

import prometheus_client

from api.offloading.definitions import NAMESPACE_MAPS, SHADOW_PODS
from isthmus.authority import AuthorityFile
from isthmus.capacity import capacity_source
from isthmus.locator import Locator
from isthmus.options import Options, host_port
from isthmus.placement import Placement
from isthmus.virtual.settings import mapping_of
from kube import kubeconfig
from kube.client import Client
from kube.events import EventRecorder
from kube.supervisor import Stage, Supervisor
from reflection.managed.names import tenant_namespace
from reflection.offloading import Offloading
from vk.node.access import DIRECT, Asks, ProviderAccess
from vk.node.capacity import QuotaCapacity
from vk.node.certificate import CertificateFiles, CertificateManager
from vk.node.controller import NodeController
from vk.node.csr import Names
from vk.node.datapath import DataPath
from vk.node.inventory import Inventory
from vk.node.lease import LeaseKeeper
from vk.node.ping import ProviderPing
from vk.node.settings import NodeSettings
from vk.server.app import KubeletServer, ServerConfig


def add_node(
    supervisor: Supervisor,
    options: Options,
    settings: NodeSettings,
    offloading: Offloading,
    *,
    network: DataPath | None = None,
    consumer: Client,
    provider: Client,
    recorder: EventRecorder,
    registry: prometheus_client.CollectorRegistry,
) -> None:
    """Node, Lease, ping, certificate and the kubelet API, which listens as soon as there is a certificate."""
    ping = ProviderPing(provider, registry=registry)
    capacity = capacity_source(options, offloading, mapping_of(options), provider=provider, registry=registry)
    certificate = _certificate(options, settings, consumer=consumer, registry=registry)
    access = ProviderAccess(
        provider,
        namespaces=lambda: [namespace.name for namespace in offloading.caches.values()],
        makes_namespaces=options.namespaces_from_objects or mapping_of(options).managed,
        asks=_managed_asks(options) if options.mode == "managed" else DIRECT,
    )
    node = NodeController(
        consumer,
        settings=settings,
        capacity=capacity,
        probes=[ping, *([network] if network is not None else [])],
        conditions=[access, certificate, Placement(offloading.pending)],
        network=network,
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
