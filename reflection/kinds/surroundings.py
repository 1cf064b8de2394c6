"""What the engines of all kinds share, and what they ask of one another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import prometheus_client

from kube.client import Client
from kube.store import Change, Key
from reflection.kinds.document import Document
from reflection.kinds.model import Context, Kind
from reflection.kinds.offloaded import NamespaceTable, Offloaded
from reflection.kinds.pace import Pace
from reflection.kinds.pool import ReflectorPool
from reflection.kinds.reports import Reports
from reflection.kinds.settings import KindSettings


class Owner(Protocol):
    """Says whether this process does the namespace-wide kinds of the provider."""

    @property
    def leading(self) -> bool:
        """Whether it is us, as far as is known."""

    def check(self) -> None:
        """Raise `kube.election.NotLeader` unless it surely is us."""


class Others(Protocol):
    """What the engine of one kind asks of the others."""

    def context(self, entry: Offloaded) -> Context:
        """What forge functions may know in a namespace."""

    def is_reflected(self, resource: str, key: Key, entry: Offloaded) -> bool | None:
        """Whether the consumer's object of another kind is reflected; None if that is not known yet."""

    def is_referred(self, resource: str, key: Key, entry: Offloaded) -> bool | None:
        """Whether a reflected object refers to this one; None if that is not known yet."""

    def referred(self, resource: str, entry: Offloaded) -> Iterable[str]:
        """Names of all objects of this kind that some object refers to, reflected or not."""

    def knows_enough(self, kind: Kind, entry: Offloaded) -> bool:
        """Whether the context has what this kind needs; if not, its engine will be told to look again when it has."""

    def synced(self, namespace: str) -> None:
        """A namespace of either side was listed."""

    def moved(self, kind: Kind, namespace: str, change: Change[Document]) -> None:
        """An object of the consumer changed: other kinds may follow it, or be referred to by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the engines of all kinds share."""

    consumer: Client
    provider: Client
    settings: KindSettings
    table: NamespaceTable
    owner: Owner
    others: Others
    reports: Reports
    pool: ReflectorPool
    pace: Pace = field(default_factory=Pace)
    concurrency: int = 16
    registry: prometheus_client.CollectorRegistry | None = None
