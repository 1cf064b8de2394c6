"""Writing parts of a NamespaceOffloading's status, each writer its own (server-side apply)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from api.offloading.definitions import NAMESPACE_OFFLOADINGS
from api.offloading.namespaces import NamespaceOffloading, ObjectProblem, ProviderStatus
from kube.client import Client
from kube.errors import ApiError
from kube.objects import to_dict

SHOWN_PROBLEMS: Final = 10
"""So many problems of single objects an entry has at most: a status is read by many, and often."""
_LIMIT: Final = 512
"""Characters of each."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The virtual kubelet's part of an entry of `status.providers`."""

    ready: bool
    reason: str
    message: str
    problems: tuple[ObjectProblem, ...] = ()
    """Of single objects, at most SHOWN_PROBLEMS."""
    problem_count: int = 0

    def with_problems(self, found: Sequence[ObjectProblem]) -> Answer:
        """The same, with what there is to tell of the namespace's objects."""
        shown = (msgspec.structs.replace(one, message=one.message[:_LIMIT]) for one in found[:SHOWN_PROBLEMS])
        return replace(self, problems=tuple(shown), problem_count=len(found))

    def said_in(self, entry: ProviderStatus) -> bool:
        """Whether the entry says so already."""
        said = (entry.ready, entry.reason, entry.message, entry.problems, entry.problem_count)
        return said == (self.ready, self.reason, self.message, self.problems, self.problem_count)

    def entry(self, provider: str) -> dict[str, Any]:
        """Our part of the entry."""
        part: dict[str, Any] = {
            "provider": provider,
            "ready": self.ready,
            "reason": self.reason,
            "message": self.message,
        }
        if self.problems:
            part |= {"problems": [to_dict(one) for one in self.problems], "problemCount": self.problem_count}
        return part


async def write(
    client: Client, offloading: NamespaceOffloading, status: Mapping[str, Any], *, manager: str
) -> NamespaceOffloading | None:
    """Apply a part of the status; None if the object is gone, or another one has its name by now."""
    metadata = offloading.metadata
    body = {
        "apiVersion": NAMESPACE_OFFLOADINGS.api_version,
        "kind": NAMESPACE_OFFLOADINGS.kind,
        "metadata": {"name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid},
        "status": status,
    }
    try:
        return await client.apply(
            NAMESPACE_OFFLOADINGS,
            body,
            name=metadata.name,
            namespace=metadata.namespace,
            subresource="status",
            field_manager=manager,
            decode=NamespaceOffloading,
        )
    except ApiError as error:
        if error.not_found or error.status == 409:
            return None
        raise
