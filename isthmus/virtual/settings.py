"""What the options of a virtual kubelet say about its Node and about reflection."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable

import structlog

from api.meta import seconds
from isthmus.options import Options, OptionsError, host_port, pairs
from kube.client import Client
from kube.errors import KubeError
from kube.resources import PODS, SERVICES
from reflection.mapping import DefaultName, FixedMapping, NamespaceMapping
from reflection.scheduling.names import PROVIDER_LABEL
from reflection.settings import KINDS_ROLE, REMOTE_ROLE, ReflectionSettings
from vk.node.discovery import Facts, discover
from vk.node.settings import DEFAULT_TAINT, NodeSettings, Taint

log = structlog.get_logger(__name__)

RUNTIME_CLASS = "isthmus"
"""The RuntimeClass of `deploy/manager`: it says where pods go, and nothing about how containers are run."""
FACTS_SECONDS = 5.0
"""How long the start waits for the provider to tell its version and platform before the consumer's are reported."""


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


def mapping_of(options: Options) -> NamespaceMapping:
    """How namespaces are called at the provider, where no objects say it. Raises `OptionsError`."""
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
