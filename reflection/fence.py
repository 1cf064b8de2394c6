"""No two pods on one claim's data because one of them is gone here and not yet there. Pure.

A pod that is removed by force (`kubectl delete --force`, or by Kubernetes from a node that was declared out of service)
leaves its remote pod behind until the provider answers again. A successor of the same name waits for that by its name
already; one of another name, as a Deployment's, would be started on the same data beside it. Pods that live share a
claim as its access mode allows: that is for the provider to judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kube.objects import Object
from kube.store import Key, Store
from reflection import ownership
from reflection.decode import decode_pod
from reflection.storage.claims import claim_names


def holder(key: Key, pod: Mapping[str, Any], remotes: Iterable[Object], origins: Store[Object]) -> str | None:
    """Name of a remote pod that uses a claim which `pod` names, and whose own pod is gone; None if there is none.

    `remotes` are all of the virtual node in the provider's namespace, `origins` its pods at the consumer.
    """
    wanted = {name for name, _ in claim_names(pod)}
    if not wanted:
        return None
    for remote in remotes:
        owner, uid = ownership.origin_key(remote.metadata), ownership.origin_uid(remote.metadata)
        if owner is None or owner == key:
            continue
        origin = origins.get(owner)
        if origin is not None and origin.metadata.uid == uid:
            continue
        if wanted & {name for name, _ in claim_names(decode_pod(remote))}:
            return remote.metadata.name
    return None
