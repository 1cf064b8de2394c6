"""Module `consumer`: VirtualNodes become running virtual kubelets, NamespaceOffloadings offloaded namespaces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from api.offloading.namespaces import NAME, NamespaceOffloading
from api.offloading.virtual_node import VirtualNode
from isthmus.modules.parts import Parts
from isthmus.options import OptionsError, host_port
from isthmus.orphans import Orphans
from isthmus.providers import Providers
from isthmus.retire import Retirement
from kube.store import Store
from kube.supervisor import Stage
from reflection.kinds import configuration
from reflection.kinds.configuration import ConfigurationError
from reflection.scheduling.keeper import KeeperSettings
from reflection.scheduling.registration import Endpoint
from reflection.scheduling.scheduling import Scheduling, SchedulingSettings
from reflection.scheduling.webhook import WebhookSettings
from reflection.storage.controller import Storage
from vk.virtualnode.approval import ServingApprover
from vk.virtualnode.controller import VirtualNodes
from vk.virtualnode.settings import VirtualNodeSettings


async def add(parts: Parts) -> None:
    """All of a consumer. Raises `OptionsError`."""
    if not parts.options.image:
        raise OptionsError("--image: needed by module consumer, for virtual kubelets run it")
    declared = _add_namespaces(parts)
    providers = await _add_virtual_nodes(parts, declared)
    _add_storage(parts, providers)


def _add_namespaces(parts: Parts) -> Store[NamespaceOffloading]:
    """NamespaceOffloadings, and the webhook that prepares their pods: it serves in every replica."""
    options = parts.options
    webhook: WebhookSettings | None = None
    if options.webhook_listen:
        host, port = host_port(options.webhook_listen, option="webhook-listen")
        endpoint = Endpoint(service=options.webhook_service, namespace=options.namespace)
        keeper = KeeperSettings(namespace=options.namespace, endpoint=endpoint)
        webhook = WebhookSettings(keeper=keeper, host=host, port=port)
    settings = SchedulingSettings(consumer_id=options.consumer_id, namespace=options.namespace, webhook=webhook)
    scheduling = Scheduling(
        parts.client, settings, leadership=parts.elector, recorder=parts.recorder, registry=parts.registry
    )
    parts.run(scheduling.cache_tasks(), stage=Stage.CACHES)
    parts.run(scheduling.server_tasks(), stage=Stage.WORKERS)
    parts.run(scheduling.worker_tasks(), stage=Stage.WORKERS)
    return scheduling.offloadings.objects.store


async def _add_virtual_nodes(parts: Parts, declared: Store[NamespaceOffloading]) -> Providers:
    options, client, check = parts.options, parts.client, parts.elector.check
    settings = await _virtual_node_settings(parts)

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
    orphans = Orphans(
        providers,
        consumer_id=options.consumer_id,
        nodes=lambda: controller.names(),  # noqa: PLW0108 - made below
        given=lambda provider: declared_names(declared, provider),
    )
    controller = VirtualNodes(
        client,
        settings,
        retire=retirement,
        orphans=orphans,
        check=check,
        authority=lambda: parts.credentials.authority,
        registry=parts.registry,
    )
    approver = ServingApprover(client, addresses=controller.addresses, check=check, registry=parts.registry)
    for name, reflector in (*controller.cache_tasks(), ("certificate requests", approver.requests)):
        parts.cache(name, reflector)
    parts.lead("virtual node controller", controller.run)
    parts.lead("serving approver", approver.controller.run)
    return providers


async def _virtual_node_settings(parts: Parts) -> VirtualNodeSettings:
    options, credentials = parts.options, parts.credentials
    access = await credentials.access()
    if credentials.authority is None:
        raise OptionsError("--kubeconfig: needs a certificate authority, for virtual kubelets are given the same")
    return VirtualNodeSettings(
        namespace=options.namespace,
        image=options.image,
        consumer_id=options.consumer_id,
        server=options.api_server or access.server,
        ca=credentials.authority,
        declared=True,
        networked="network" in options.module,
        election_namespace=f"isthmus-{options.consumer_id}",
        kinds=_kinds(options.reflect_kinds),
    )


def _kinds(file: str) -> dict[str, Any]:
    """The cluster's configuration of kinds, which must be one. Raises `OptionsError`."""
    if not file:
        return {}
    try:
        given = configuration.read(Path(file))
        configuration.parse(given, consumer_id="", provider="", resync=0.0)
    except ConfigurationError as error:
        raise OptionsError(f"--reflect-kinds: {error}") from error
    return given


def _add_storage(parts: Parts, providers: Providers) -> None:
    storage = Storage(
        parts.client,
        providers,
        parts.recorder,
        consumer_id=parts.options.consumer_id,
        check=parts.elector.check,
        registry=parts.registry,
    )
    for name, reflector in storage.cache_tasks():
        parts.cache(name, reflector)
    for name, controller in (("claims", storage.claim_controller), ("volumes", storage.volume_controller)):
        parts.lead(f"{name} controller", controller.run)


def declared_name(store: Store[NamespaceOffloading], provider: str, namespace: str) -> str | None:
    """What a NamespaceOffloading's status says of its namespace's name at a provider."""
    found = store.get((namespace, NAME))
    told = found.status.providers if found is not None else ()
    return next((one.namespace for one in told if one.provider == provider and one.namespace), None)


def declared_names(store: Store[NamespaceOffloading], provider: str) -> set[str]:
    """What NamespaceOffloadings call their namespaces at a provider."""
    entries = (one for offloading in store.values() for one in offloading.status.providers)
    return {one.namespace for one in entries if one.provider == provider and one.namespace}
