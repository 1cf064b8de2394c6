"""Pods as the controller of NamespaceOffloadings sees them: little of each, for it sees those of the whole cluster."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec.structs import force_setattr

from kube.objects import Metadata
from reflection.forge.names import MIRROR_ANNOTATION
from reflection.scheduling import names, tolerance

RUNNING: Final = "status.phase!=Succeeded,status.phase!=Failed"
"""Field selector of pods that have not ended."""
_ANNOTATIONS: Final = (names.STRATEGY_MARK, names.OPT_OUT, MIRROR_ANNOTATION)


class _Spec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    node_name: str = ""
    tolerations: tuple[dict[str, Any], ...] = ()


class SeenPod(msgspec.Struct, frozen=True, gc=False):
    """What is kept of a pod."""

    metadata: Metadata
    spec: _Spec = _Spec()
    evictable: bool = False
    """Whether Kubernetes would evict it from an unready node after a while that it did not choose. Set below."""

    def __post_init__(self) -> None:
        full = self.metadata
        force_setattr(self, "evictable", tolerance.loosened(self.spec.tolerations) is not None)
        force_setattr(self, "spec", _Spec(self.spec.node_name))
        slim = msgspec.structs.replace(
            full,
            labels=_only(full.labels, (names.OPT_OUT,)),
            annotations=_only(full.annotations, _ANNOTATIONS),
            owner_references=tuple(owner for owner in full.owner_references if owner.kind == "DaemonSet"),
            finalizers=(),
            generate_name="",
        )
        force_setattr(self, "metadata", slim)

    @property
    def is_exempt(self) -> bool:
        """Whether the webhook would have passed it by, but for a node that it named itself: that can't be told."""
        meta = self.metadata
        daemon = any(owner.controller for owner in meta.owner_references)
        opted_out = "true" in (meta.labels.get(names.OPT_OUT), meta.annotations.get(names.OPT_OUT))
        return daemon or opted_out or MIRROR_ANNOTATION in meta.annotations

    def was_missed(self, *, since: str) -> bool:
        """Whether it was made after `since` (RFC 3339, seconds) and without the webhook."""
        meta = self.metadata
        return names.STRATEGY_MARK not in meta.annotations and meta.creation_timestamp > since and not self.is_exempt


def _only(values: dict[str, str], keys: tuple[str, ...]) -> dict[str, str]:
    return {key: values[key] for key in keys if key in values}
