"""Asking pods to leave, each as its disruption budget allows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from kube.client import Client
from kube.errors import ApiError
from kube.events import clean
from kube.objects import Metadata
from kube.resources import PODS

_PARALLEL: Final = 32
_SHOWN: Final = 200


async def evict(client: Client, pods: Sequence[Metadata]) -> list[str]:
    """Evict all that are not on their way out; return what may not go now, each with the reason."""
    slots = asyncio.Semaphore(_PARALLEL)

    async def one(pod: Metadata) -> str:
        async with slots:
            return await _evict(client, pod)

    async with asyncio.TaskGroup() as group:
        made = [group.create_task(one(pod)) for pod in pods if not pod.deletion_timestamp]
    return sorted(answer for answer in (task.result() for task in made) if answer)


async def _evict(client: Client, pod: Metadata) -> str:
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod.name, "namespace": pod.namespace},
        "deleteOptions": {"preconditions": {"uid": pod.uid}},
    }
    try:
        await client.create(PODS, body, namespace=pod.namespace, name=pod.name, subresource="eviction")
    except ApiError as error:
        gone = error.not_found or error.status == 409
        return "" if gone else f"{pod.name}: {clean(error.message, limit=_SHOWN)}"
    return ""
