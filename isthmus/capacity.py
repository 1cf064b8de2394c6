"""Where the Node's resources come from: flags, ResourceQuotas or the provider's nodes."""

from __future__ import annotations

from collections.abc import Mapping

import prometheus_client

from isthmus import own_use
from isthmus.options import Options, OptionsError, pairs
from kube.client import Client
from kube.quantities import Quantity
from reflection.forge import names
from reflection.mapping import NamespaceMapping
from reflection.offloading import Offloading
from vk.node.capacity import FixedCapacity, QuotaCapacity
from vk.node.inventory import Inventory


def capacity_source(
    options: Options,
    offloading: Offloading,
    mapping: NamespaceMapping,
    *,
    provider: Client,
    registry: prometheus_client.CollectorRegistry,
) -> FixedCapacity | QuotaCapacity | Inventory:
    """The source that the options ask for. Raises `OptionsError`."""
    given = {name: Quantity.parse(text) for name, text in pairs(options.capacity, option="capacity").items()}
    namespaces = options.quota_namespace
    if options.provider_nodes != "ignore":
        return _inventory(options, given, provider=provider, registry=registry)
    if not namespaces and not given:
        namespaces = list(mapping.known())
        if not namespaces:
            raise OptionsError("--capacity: needed where no --namespace or --quota-namespace tells whose quotas count")
    if not namespaces:
        return FixedCapacity({"pods": Quantity.parse("110"), **given})
    return QuotaCapacity(
        provider,
        namespaces=namespaces,
        limit=given,
        own_use=lambda namespace: own_use.of(offloading.remote_pods(namespace)),
        registry=registry,
    )


def _inventory(
    options: Options,
    given: Mapping[str, Quantity],
    *,
    provider: Client,
    registry: prometheus_client.CollectorRegistry,
) -> Inventory:
    if options.quota_namespace:
        raise OptionsError("--provider-nodes: not with --quota-namespace; nodes or quotas tell what is left")
    if options.provider_nodes == "watch" and not given:
        raise OptionsError("--capacity: needed with --provider-nodes=watch, which offers nothing by itself")
    limit = {"pods": Quantity.parse("110"), **given} if options.provider_nodes == "watch" else given
    return Inventory(
        provider,
        node_selector=pairs(options.node_selector, option="node-selector"),
        own_label=(names.NODE_LABEL, names.label_value(options.node_name)),
        limit=limit,
        offer=options.provider_nodes == "offer",
        registry=registry,
    )
