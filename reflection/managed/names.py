"""Names by which the two sides of managed mode know each other's objects."""

from __future__ import annotations

import re
from typing import Final

from api.meta import DNS_LABEL
from reflection.forge.names import PREFIX

TENANT_PREFIX: Final = "isthmus-"
"""A consumer's NamespaceMaps are in the provider's namespace of this and the consumer's id."""

USER_PREFIX: Final = "isthmus:"
"""A consumer's user name at the provider is this and its id."""

SHADOW_LABEL: Final = PREFIX + "shadow-pod"
"""Label of a pod: the UID of the ShadowPod that it was made for. Only the provider's manager sets it."""

APPLIED: Final = PREFIX + "applied"
"""Annotation of a pod: the record of what its ShadowPod asked for when it was last brought in step."""

MAP_ANNOTATION: Final = PREFIX + "namespace-map"
"""Annotation of a namespace: `<tenant namespace>/<name>` of the NamespaceMap that it was made for."""

POD_FINALIZER: Final = PREFIX + "shadow-pod"
"""Holds a pod until its end is recorded, so that one that completed is never run again."""
SHADOW_FINALIZER: Final = PREFIX + "shadow-pod"
"""Holds a ShadowPod until its pod is gone."""
MAP_FINALIZER: Final = PREFIX + "namespace-map"
"""Holds a NamespaceMap until its namespace is gone."""

_LABEL = re.compile(DNS_LABEL)


def tenant_namespace(consumer_id: str) -> str:
    """Where the consumer's NamespaceMaps are."""
    return TENANT_PREFIX + consumer_id


def consumer_of(tenant: str) -> str | None:
    """The consumer whose tenant namespace this is; None if it is none."""
    consumer_id = tenant.removeprefix(TENANT_PREFIX)
    return consumer_id if consumer_id != tenant and _LABEL.match(consumer_id) else None


def user(consumer_id: str) -> str:
    """Who the consumer is at the provider."""
    return USER_PREFIX + consumer_id
