"""Is the consumer's pod really gone? Nothing at the provider is deleted on less than a proof."""

from __future__ import annotations

from enum import Enum

from kube.client import Client
from kube.errors import ApiError
from kube.objects import Object
from kube.resources import PODS
from kube.store import Evidence, Key, Store


class Origin(Enum):
    """What is known of the consumer's pod with a given UID."""

    GONE = "gone"
    ALIVE = "alive"


async def origin_state(consumer: Client, pods: Store[Object], key: Key, *, uid: str, node_name: str) -> Origin:
    """Prove that the pod `uid` is gone, or not.

    Proof is: the watch said DELETED of this UID, another UID has the name, or the API server says so when asked
    now. Absence from a list is not enough: lists can be wrong (fault F12). Errors are raised: they prove nothing.
    """
    current = pods.get(key)
    if current is not None:
        return Origin.ALIVE if current.metadata.uid == uid else Origin.GONE
    tombstone = pods.tombstone(key)
    if tombstone is not None and tombstone.uid == uid and tombstone.evidence is Evidence.WATCH:
        return Origin.GONE
    found = await _ask(consumer, key, node_name=node_name)
    return Origin.ALIVE if found is not None and found.metadata.uid == uid else Origin.GONE


async def _ask(consumer: Client, key: Key, *, node_name: str) -> Object | None:
    """GET the pod. The Node authoriser answers 403 for pods not (or no longer) bound to the node: then list it."""
    namespace, name = key
    try:
        return await consumer.get(PODS, name=name, namespace=namespace, decode=Object)
    except ApiError as error:
        if error.not_found:
            return None
        if not error.forbidden:
            raise
    selector = f"metadata.name={name},spec.nodeName={node_name}"
    listing = await consumer.list(PODS, namespace=namespace, field_selector=selector, decode=Object)
    return next((pod for pod in listing.items if pod.metadata.name == name), None)
