"""What the consumer's manager knows besides the objects."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerSettings:
    """Who this cluster is."""

    consumer_id: str
    """Short name of this cluster, unique among its providers' consumers."""
    cluster_id: str
    """UID of the namespace kube-system."""
    namespace: str = "isthmus"
    """Where keys and kubeconfigs are kept."""
    key_retention: timedelta = timedelta(hours=1)
    """How long the key of an Identity that was deleted is kept for one of the same name."""
