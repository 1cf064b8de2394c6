"""`--dry-run`: print, as YAML, the Node and the remote pods that would be made. Reads, and writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import yaml

from isthmus.options import Options
from kube.client import Client
from kube.objects import Object
from kube.resources import PODS
from reflection.contexts import Contexts
from reflection.decode import decode_pod
from reflection.forge.model import Refused
from reflection.forge.pod import forge_pod
from reflection.mapping import NamespaceNotMappedError
from reflection.settings import ReflectionSettings
from vk.node import forge
from vk.node.settings import NodeSettings
from vk.node.signals import CapacitySource


async def describe(
    options: Options,
    settings: NodeSettings,
    reflected: ReflectionSettings,
    capacity: CapacitySource,
    *,
    consumer: Client,
) -> str:
    """The YAML documents. Capacity that comes from quotas is not read: the node is shown without it."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    desired = forge.Desired(ready=None, resources=capacity.resources)
    documents = [f"# node {options.node_name} at the consumer\n{_yaml(forge.new_node(settings, desired, now=now))}"]
    listing = await consumer.list(PODS, field_selector=f"spec.nodeName={settings.name}", decode=Object)
    documents.extend(_pods(listing.items, reflected))
    return "---\n".join(documents)


def _pods(pods: list[Object], settings: ReflectionSettings) -> Iterator[str]:
    contexts = Contexts(settings)
    for envelope in pods:
        pod = decode_pod(envelope)
        key = f"{envelope.metadata.namespace}/{envelope.metadata.name}"
        try:
            context = contexts.of(settings.mapping.remote(envelope.metadata.namespace))
            forged = forge_pod(pod, context=context)
        except (Refused, NamespaceNotMappedError) as error:
            yield f"# pod {key} would be refused: {error}\n"
            continue
        yield f"# for pod {key}, at the provider\n{_yaml(forged.body)}"


def _yaml(body: Any) -> str:
    return yaml.safe_dump(body, sort_keys=False)
