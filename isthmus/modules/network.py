"""Module `network`: NetworkPeerings and ExternalAddresses, by agents on nodes and gateways (`deploy/network`)."""

from __future__ import annotations

from isthmus.modules.parts import Parts
from isthmus.offloaded import OffloadedPods
from kube.election import NotLeader
from kube.resources import LEASES
from kube.supervisor import Stage
from netfabric.controller.fabric import Fabric, FabricSettings


async def add(parts: Parts) -> None:
    """The fabric's controller."""
    options = parts.options

    async def term() -> int:
        """How often the Lease has changed hands: agents refuse what an older leader sends."""
        lease = await parts.client.get(LEASES, namespace=options.namespace, name=parts.elector.lease)
        parts.elector.check()
        if lease["spec"].get("holderIdentity") != parts.elector.identity:
            raise NotLeader("the Lease is another's")
        return int(lease["spec"].get("leaseTransitions") or 0) + 1

    borrows = not options.module or "consumer" in options.module
    offloaded = OffloadedPods(parts.client, borrows=borrows, registry=parts.registry)
    fabric = Fabric(
        parts.client,
        FabricSettings(namespace=options.namespace, agent_port=options.fabric_agent_port),
        offloaded=offloaded,
        check=parts.elector.check,
        term=term,
        registry=parts.registry,
    )
    offloaded.changed = fabric.reconsider
    for name, reflector in fabric.cache_tasks():
        parts.cache(name, reflector)
    parts.run(offloaded.cache_tasks(), stage=Stage.CACHES)
    for name, work in fabric.worker_tasks():
        parts.lead(name, work)
