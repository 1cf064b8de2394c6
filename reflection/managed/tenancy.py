"""What is asked of whoever knows the provider's tenants, when a consumer's ShadowPod is to become a pod.

`limits` say what a consumer's pods may ask for. `admit` decides about one pod, with all that the consumer holds: it is
called serially for each consumer, right before the pod is made (or grows), and what it lets pass counts from then on,
whatever a cache shows. So a quota that it keeps can't be overrun by pods that are asked for at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from reflection.managed.names import user
from reflection.managed.refusals import Refusal
from reflection.managed.settings import Limits
from reflection.managed.usage import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One pod that a consumer wants, or wants larger."""

    consumer_id: str
    namespace: str
    """Of the provider."""
    name: str
    pod: Mapping[str, Any]
    """What was asked: `{metadata: {labels, annotations}, spec}`, as `Limits` allow it."""
    wants: Usage
    held: Usage
    """By all other pods of the consumer here, those that run to their end included until they are over."""
    grows: bool = False
    """The pod is there, and is to be resized."""


class Tenants(Protocol):
    """Who may have what. Answers come from memory: pods wait for them."""

    def limits(self, consumer_id: str) -> Limits:
        """What the consumer's pods may ask for."""

    def subject(self, consumer_id: str) -> Mapping[str, str] | None:
        """Who the consumer is, as the subject of a RoleBinding; None if it has no rights now."""

    async def admit(self, asked: Asked) -> Refusal | None:
        """Why the pod may not be made now, in words for its owner; None if it may. It is asked again after `retry`."""


@dataclass(frozen=True, slots=True)
class Everyone:
    """All consumers are treated alike, and none has a quota but the ResourceQuotas of its namespaces."""

    common: Limits = field(default_factory=Limits)

    def limits(self, consumer_id: str) -> Limits:
        """See `Tenants`."""
        return self.common

    def subject(self, consumer_id: str) -> Mapping[str, str] | None:
        """See `Tenants`."""
        return {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user(consumer_id)}

    async def admit(self, asked: Asked) -> Refusal | None:
        """See `Tenants`."""
        return None
