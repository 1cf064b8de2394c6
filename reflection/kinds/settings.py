"""What the user decided about the reflection of kinds."""

from __future__ import annotations

from dataclasses import dataclass, field

from reflection.kinds.body import Filters
from reflection.kinds.model import Classes
from reflection.kinds.selection import Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class KindSettings:
    """Settings for one provider."""

    consumer_id: str
    provider: str
    """Name of the provider: who shares it shares what is namespace-wide."""
    rules: Rules = field(default_factory=dict)
    """What holds in all namespaces. A kind that is switched off here is still watched at the provider, so that what
    was made of it is removed."""
    node_rules: tuple[Rules, ...] = ()
    """What each virtual node of the provider lets through: one that does is enough. None: all."""
    filters: Filters = field(default_factory=Filters)
    classes: Classes = field(default_factory=Classes)
    families: tuple[str, ...] = ()
    external_ips: bool = False
    external_names: bool = False
    retry: float = 60.0
    """Seconds after which an object that was refused is tried again."""
    resync: float = 600.0
    """Seconds after which everything is listed anew."""
